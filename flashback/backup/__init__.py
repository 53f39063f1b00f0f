"""The run: walk, plan, guard, act, prove."""
