#!/bin/sh
# Gets compose.yaml going, with alice as coordinator and bob, carol and dave as
# participants. What exists already is left as it is.
#
#   sh deploy/compose.sh secrets     make secrets/: of the servers, and a password for each user
#   sh deploy/compose.sh up          that, start everything, make the accounts, log in
#
# CONCLAVE_SECRETS names another place than secrets/ (compose.yaml must name it too).
set -eu
cd "$(dirname "$0")"
secrets=${CONCLAVE_SECRETS:-secrets}

random() { head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }

# Containers read the files as members of this user's group (see up), and the
# directory keeps others on this machine out. Files that everybody may read are
# refused by those who read them.
make_secrets() {
    mkdir -p "$secrets"
    chmod 700 "$secrets"
    for name in jwt-secret redis-password redis-admin-password grafana-password alice bob carol dave; do
        [ -s "$secrets/$name" ] || random >"$secrets/$name"
    done
    [ -s "$secrets/redis-url" ] || echo "redis://conclave:$(cat "$secrets/redis-password")@redis:6379/0" >"$secrets/redis-url"
    chmod 640 "$secrets"/*
}

up() {
    make_secrets
    echo "SECRETS_GID=$(id -g)" >.env
    docker compose up -d --build --wait
    for user in alice bob carol dave; do
        role=participant
        [ $user != alice ] || role=coordinator
        docker compose exec -T n1 /usr/local/bin/conclaved user add $user --role $role <"$secrets/$user" ||
            echo "compose.sh: $user has an account already" >&2
    done
    for user in bob carol dave; do
        docker compose run --rm --no-deps -T $user login http://haproxy:8080 $user <"$secrets/$user"
    done
    docker compose --profile participants up -d
    echo "alice logs in with: conclave login http://127.0.0.1:8080 alice <deploy/secrets/alice"
}

case "${1:-}" in
secrets) make_secrets ;;
up) up ;;
*) echo "usage: compose.sh secrets|up" >&2; exit 2 ;;
esac
