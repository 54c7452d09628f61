#!/bin/sh
# Starts redis-server with redis.conf and users.acl, which are beside this file.
# Arguments go to redis-server. Passwords are in files:
#
#   REDIS_CONCLAVE_PASSWORD_FILE   of user conclave, for conclaved (--redis-file)
#   REDIS_ADMIN_PASSWORD_FILE      of user default, for people; without it nobody is that
#
# What redis-server gets to see are their SHA-256 hashes, in a file in TMPDIR.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

hash_of() {
    [ -s "$1" ] || { echo "redis-start.sh: no password in $1" >&2; exit 1; }
    printf %s "$(cat "$1")" | sha256sum | cut -d ' ' -f 1   # without the line break at its end
}

conclave=$(hash_of "${REDIS_CONCLAVE_PASSWORD_FILE:?names the file with the password of user conclave}")
default="user default off resetpass -@all"
if [ -n "${REDIS_ADMIN_PASSWORD_FILE:-}" ]; then
    admin=$(hash_of "$REDIS_ADMIN_PASSWORD_FILE")
    default="user default on resetpass #$admin ~* &* +@all"
fi
umask 077
users=$(mktemp "${TMPDIR:-/tmp}/conclave-users.XXXXXX")
{
    echo "$default"
    sed -e '/^#/d' -e "s/ resetpass / resetpass #$conclave /" "$here/users.acl"
} >"$users"
exec redis-server "$here/redis.conf" --aclfile "$users" "$@"
