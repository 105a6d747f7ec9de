#!/usr/bin/env bash
# Runs a command as root in a copy of this machine: accounts that it makes, and what it mounts and starts, end with it.
# For tests and measurements of the workshop, which makes an account for each learner. Python may lie in root's own
# home: here it can be reached by all.
#     tools/room.sh FOLDER COMMAND …       FOLDER is an empty one, for the copies
set -euo pipefail
folder=$1
shift
export folder
exec unshare --mount --pid --fork --kill-child --mount-proc bash -euc '
    cp -a /etc "$folder/etc"
    mount --bind "$folder/etc" /etc
    if [ "$(stat -c %a /root)" = 700 ]; then
        mkdir -p "$folder/root"
        mount --bind /root "$folder/root"
        mount -t tmpfs -o mode=755 tmpfs /root
        for entry in "$folder"/root/.[!.]* "$folder"/root/*; do
            name=$(basename "$entry")
            if [ -d "$entry" ]; then mkdir "/root/$name" && mount --bind "$entry" "/root/$name"; fi
        done
    fi
    "$@"
    exit $?  # so that bash stays, the parent of whatever has lost its own' room "$@"
