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

// exitMeanings is what conclave help exit-codes prints.
var exitMeanings = [...]string{
	exitOK:              "done",
	exitFailed:          "failed: the keygen or signing did, a signature or share is bad, or anything that is not below",
	exitUsage:           "the command was not understood, and nothing was done",
	exitRefused:         "refused: participants declined, somebody cancelled, or you may not do this",
	exitTimeout:         "no outcome in time: the request expired, or was given up waiting for",
	exitUnreachable:     "no server was reached within 12s, or none that can serve now",
	exitUnauthenticated: "not logged in, or the token or password is not good (any more)",
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

// unreached reports whether err is of the way to a server.
func unreached(err error) bool {
	var request *url.Error
	var network *net.OpError
	var nobody *unreachedError
	return errors.As(err, &nobody) || errors.As(err, &request) || errors.As(err, &network) || errors.Is(err, rest.ErrNotConclave)
}

// hintFor says what may help against err.
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
		return "a user has one connection: end the other one, or use another account for this"
	case errors.Is(err, dirstore.ErrProtected):
		return "there is no terminal to ask on; give --passphrase-file FILE, or its name in CONCLAVE_PASSPHRASE_FILE"
	case errors.Is(err, trust.ErrNotPinned):
		return "ask them to read you what conclave identity shows, then conclave trust add USER FINGERPRINT"
	case errors.Is(err, trust.ErrNotAttested):
		return "the servers, or who has captured them, may want you to use a key of their own; ask the participants what conclave share list shows them"
	case errors.Is(err, share.ErrNotOwner):
		return "give its owner's identity with --identity FILE"
	case errors.Is(err, secret.ErrLocked):
		return "is a participant running with this home? give this one another with --home, or another --profile"
	case errors.As(err, &outcome):
		return hintForOutcome(outcome)
	case errors.As(err, &told):
		return hintForCode(told)
	case errors.As(err, &unknown):
		return "give the authority that the server's certificate is from with --ca FILE"
	case errors.As(err, &plain):
		return "does the server speak TLS there? the URL says https"
	case unreached(err):
		return "is the server running, and is that its URL?"
	}
	return ""
}

func hintForOutcome(e *request.OutcomeError) string {
	switch e.Status {
	case wire.StatusRejected:
		if !trust.NeedsPin(e.Reason) {
			return "" // a person or a policy has said no, and why
		}
		return "participants that approve without asking take only what a coordinator has signed whom they have pinned: conclave trust add, with what conclave identity shows here"
	case wire.StatusExpired:
		return "are the participants running? conclave sessions show " + e.SessionID + " tells who has answered, and conclave presence USER who is connected of those you share a key with"
	}
	return ""
}

func hintForCode(e *wire.Error) string {
	switch e.Code {
	case wire.CodeTokenExpired, wire.CodeUnauthenticated:
		return "log in with conclave login URL USER, or without both where and as whom it was before"
	case wire.CodeUnavailable:
		return "try again in a moment"
	case wire.CodeStorageFull:
		return "the servers take nothing new until their operator has made room; what has begun goes on"
	case wire.CodeRateLimited:
		return "what comes too often is refused for a while; the message says for how long where the server knows"
	case wire.CodeQuotaExceeded:
		return "conclave sessions list shows what is open; conclave sessions show ID tells more, and the server's operator can raise the limit"
	case wire.CodeUnknownUser:
		return "is the name spelled as its account is? admins add accounts with conclave users add, the server's operator with conclaved user add"
	case wire.CodeNotFound:
		return "conclave keys and conclave sessions list what there is"
	case wire.CodeForbidden:
		return "conclave profile show tells who you are here, and in which roles"
	}
	return ""
}
