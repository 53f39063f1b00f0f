"""Many drives, one plan, one memory: the ledger, due and overdue, exposure, advice, retention, the clock's sanity.

Only `ledger` touches the outside (one SQLite file); the rest is pure and is handed the time.
"""
