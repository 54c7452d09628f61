package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/client/dirstore"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/client/rest"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
	"github.com/conclave-mpc/conclave/wsconn/secret"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// The exit statuses of all commands. Scripts rely on them: their meanings stay.
const (
	exitOK = iota
	exitFailed
	exitUsage
	exitRefused
	exitTimeout
	exitUnreachable
	exitUnauthenticated
)

// exitMeanings is the text of conclave help exit-codes.
var exitMeanings = [...]string{
	exitOK:              "done",
	exitFailed:          "failed: the keygen or signing failed, a signature or share is invalid, or any other error",
	exitUsage:           "usage error: the command line is invalid, and nothing was done",
	exitRefused:         "refused: participants declined, the session was cancelled, or you lack permission",
	exitTimeout:         "no outcome in time: the request expired, or --timeout passed",
	exitUnreachable:     "no server was reached within 12s, or none is available",
	exitUnauthenticated: "not logged in, or the token or password is invalid or has expired",
}

func exitCodes() string {
	var b strings.Builder
	for status, meaning := range exitMeanings {
		fmt.Fprintf(&b, "  %d  %s\n", status, meaning)
	}
	return b.String()
}

// statusOf is the exit status for err.
func statusOf(err error) int {
	var bad *usageError
	var outcome *request.OutcomeError
	var told *wire.Error
	var late *timeoutError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &bad), errors.Is(err, pubkey.ErrTransaction):
		return exitUsage
	case errors.As(err, &outcome):
		return statusOfOutcome(outcome.Status)
	case errors.As(err, &late):
		return exitTimeout
	case errors.Is(err, errNotLoggedIn), errors.Is(err, client.ErrTokenExpired):
		return exitUnauthenticated
	case errors.As(err, &told):
		return statusOfCode(told.Code)
	case unreached(err):
		return exitUnreachable
	case errors.Is(err, context.DeadlineExceeded):
		return exitTimeout
	}
	return exitFailed
}

func statusOfOutcome(s wire.Status) int {
	switch s {
	case wire.StatusSuccess:
		return exitOK
	case wire.StatusRejected, wire.StatusCancelled:
		return exitRefused
	case wire.StatusExpired:
		return exitTimeout
	}
	return exitFailed
}

func statusOfCode(code wire.Code) int {
	switch code {
	case wire.CodeUnauthenticated, wire.CodeTokenExpired:
		return exitUnauthenticated
	case wire.CodeForbidden:
		return exitRefused
	case wire.CodeUnavailable:
		return exitUnreachable
	}
	return exitFailed
}

// unreached reports whether err means that no server could be reached.
func unreached(err error) bool {
	var request *url.Error
	var network *net.OpError
	var nobody *unreachedError
	return errors.As(err, &nobody) || errors.As(err, &request) || errors.As(err, &network) || errors.Is(err, rest.ErrNotConclave)
}

// hintFor returns a hint on how to fix err.
func hintFor(err error) string {
	var told *wire.Error
	var outcome *request.OutcomeError
	var unknown x509.UnknownAuthorityError
	var plain tls.RecordHeaderError
	switch {
	case errors.Is(err, errNotLoggedIn):
		return "log in with conclave login URL USER, or give --url and --token-file"
	case errors.Is(err, client.ErrTokenExpired):
		return "log in again with conclave login URL USER"
	case errors.Is(err, client.ErrSuperseded):
		return "a user can have only one connection: close the other one, or use another account"
	case errors.Is(err, dirstore.ErrProtected):
		return "there is no terminal to ask on; give --passphrase-file FILE, or set CONCLAVE_PASSPHRASE_FILE to its name"
	case errors.Is(err, trust.ErrNotPinned):
		return "ask them to read you the output of conclave identity, then run conclave trust add USER FINGERPRINT"
	case errors.Is(err, trust.ErrNotAttested):
		return "the servers, or an attacker who controls them, may be substituting a key of their own; ask the participants for the output of conclave share list"
	case errors.Is(err, share.ErrNotOwner):
		return "give its owner's identity with --identity FILE"
	case errors.Is(err, secret.ErrLocked):
		return "is a participant running with this home? use another --home or --profile"
	case errors.As(err, &outcome):
		return hintForOutcome(outcome)
	case errors.As(err, &told):
		return hintForCode(told)
	case errors.As(err, &unknown):
		return "give the CA certificate of the server with --ca FILE"
	case errors.As(err, &plain):
		return "does the server use TLS at this address? the URL begins with https"
	case unreached(err):
		return "is the server running, and is the URL correct?"
	}
	return ""
}

func hintForOutcome(e *request.OutcomeError) string {
	switch e.Status {
	case wire.StatusRejected:
		if !trust.NeedsPin(e.Reason) {
			return "" // a person or a policy has refused, with a reason
		}
		return "participants that approve automatically accept only requests signed by a pinned coordinator: let them run conclave trust add with your fingerprint, which conclave identity shows"
	case wire.StatusExpired:
		return "are the participants running? conclave sessions show " + e.SessionID + " lists the answers, and conclave presence USER shows whether a user is connected"
	}
	return ""
}

func hintForCode(e *wire.Error) string {
	switch e.Code {
	case wire.CodeTokenExpired, wire.CodeUnauthenticated:
		return "log in with conclave login URL USER, or conclave login for the same servers and user as before"
	case wire.CodeUnavailable:
		return "try again in a moment"
	case wire.CodeStorageFull:
		return "the servers refuse new requests until their operator has freed memory; running sessions continue"
	case wire.CodeRateLimited:
		return "too many requests: wait and try again; the message says how long, if the server knows"
	case wire.CodeQuotaExceeded:
		return "conclave sessions list shows the open sessions, conclave sessions show ID the details; the server's operator can raise the limit"
	case wire.CodeUnknownUser:
		return "check the spelling of the user's name; admins add accounts with conclave users add, the server's operator with conclaved user add"
	case wire.CodeNotFound:
		return "conclave keys and conclave sessions list your keys and sessions"
	case wire.CodeForbidden:
		return "conclave profile show shows your user and roles"
	}
	return ""
}
