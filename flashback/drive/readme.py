"""README.txt on every drive: how to read it without Flashback, step by step."""

from __future__ import annotations


def readme(*, name: str, uuid: str) -> str:
    """The text for the drive `name` with this LUKS UUID."""
    return f"""This is "{name}", a backup drive made by Flashback.

You do not need Flashback to read it. Any Linux system with cryptsetup will do; a live system from a USB stick, too.
You need the passphrase or the recovery key of the drive. Type the commands as root (or with sudo in front).

1. Open the encrypted volume. It asks for the passphrase.

    cryptsetup open --readonly /dev/disk/by-uuid/{uuid} flashback

   If it says that the device is in use, the desktop has asked for the passphrase and opened the drive already. Then go
   on with 3 where the desktop shows it (`lsblk` says where that is), and have the desktop eject it in the end.

2. Mount it, read-only.

    mkdir -p /mnt/flashback
    mount -o ro /dev/mapper/flashback /mnt/flashback

   If mount says "can't read superblock", the drive was unplugged while it was in use. Then:

    mount -o ro,rescue=nologreplay /dev/mapper/flashback /mnt/flashback

3. Look around. Each directory that was backed up has a folder here:

    NAME/current                      the latest copy
    NAME/snapshots/20260102T030405Z   how it was on 2 January 2026 at 03:04:05 UTC, and so on

   They are plain files. Only root can look into snapshots. Copy what you need, a file or all of it:

    cp -a /mnt/flashback/NAME/current/letter.txt /home/you/
    cp -a /mnt/flashback/NAME/current /home/you/restored

   -a keeps owners, rights and dates. If the files then belong to a number and not to you: chown -R you: and the folder.

4. Put it away before you unplug it.

    umount /mnt/flashback
    cryptsetup close flashback

The hidden folder .flashback holds what Flashback needs: the drive's journal (runs.jsonl), the configuration of the last
run (config/) and copies of the other drives' LUKS headers (headers/). You may read it; please do not change it.
"""
