package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/wsconn/client"
)

func noEnv(string) string { return "" }

// asking starts an asker whose stdin the test writes to.
func asking(t *testing.T) (a *asker, stderr *strings.Builder, stdin io.WriteCloser, ctx context.Context) {
	t.Helper()
	stderr = new(strings.Builder)
	in, stdin := io.Pipe()
	ctx, cancel := context.WithCancelCause(t.Context())
	a = &asker{console: newConsole(stderr, noEnv), lines: make(chan string), stop: cancel}
	done := make(chan struct{})
	go func() { defer close(done); a.read(ctx, in) }()
	t.Cleanup(func() { stdin.Close(); cancel(nil); <-done })
	return a, stderr, stdin, ctx
}

func signing() client.Invitation {
	return client.Invitation{
		Kind: client.KindSign, SessionID: "sg-1", KeyID: "key-1", Coordinator: "dave", Curve: "secp256k1", Threshold: 2, PartIndex: 3,
		Participants: []string{"alice", "carol"}, Data: "pay\x1b[8m eve", Hash: "eip191", Digest: "0xd1", AccountAddr: "0xacc",
	}
}

func TestAsked(t *testing.T) {
	for answer, want := range map[string]bool{"y": true, "YES": true, "n": false, "": false, "what\ny": true} {
		a, stderr, stdin, ctx := asking(t)
		go func() { _, _ = io.WriteString(stdin, answer+"\n") }()
		ok, reason, err := a.ask(ctx, signing())
		if ok != want || err != nil || ok != (reason == "") {
			t.Errorf("answer %q: %t, %q, %v", answer, ok, reason, err)
		}
		for _, shown := range []string{
			"dave asks you to sign", "key-1", "0xacc", `"pay\x1b[8m eve"`, "eip191", "0xd1", "alice, carol", "2 of them", "sg-1", "sign? [y/N]",
		} {
			if !strings.Contains(stderr.String(), shown) {
				t.Errorf("the question does not show %s:\n%s", shown, stderr)
			}
		}
		if strings.Contains(stderr.String(), "\x1b") {
			t.Error("the question has a control character")
		}
	}
}

func TestQuestionBecomesVoid(t *testing.T) {
	a, stderr, _, ctx := asking(t)
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if ok, _, err := a.approve(ctx, signing()); ok || !errors.Is(err, context.Canceled) {
		t.Errorf("got %t, %v", ok, err)
	}
	if stderr.Len() > 0 {
		t.Errorf("asked about what has ended: %s", stderr)
	}
	if _, _, err := a.ask(ctx, signing()); !errors.Is(err, context.Canceled) || !strings.Contains(stderr.String(), "void") {
		t.Errorf("got %v, said %s", err, stderr)
	}
}

// When stdin ends nobody can approve, and that ends the participant.
func TestNobodyToAsk(t *testing.T) {
	_, _, stdin, ctx := asking(t)
	stdin.Close()
	<-ctx.Done()
	if cause := context.Cause(ctx); !errors.Is(cause, errNobodyToAsk) {
		t.Errorf("cause is %v", cause)
	}
	// A script's answers may be followed by the end.
	a, _, stdin, ctx := asking(t)
	go func() { _, _ = io.WriteString(stdin, "y\n"); stdin.Close() }()
	if ok, _, err := a.approve(ctx, signing()); !ok || err != nil || ctx.Err() != nil {
		t.Errorf("got %t, %v; ended %v", ok, err, ctx.Err())
	}
	if ok, _, err := a.approve(ctx, signing()); ok || !errors.Is(err, errNobodyToAsk) || ctx.Err() == nil {
		t.Errorf("got %t, %v; ended %v", ok, err, ctx.Err())
	}
}

func TestBar(t *testing.T) {
	for _, tc := range []struct {
		n, of int
		want  string
	}{{0, 4, "[........................]"}, {1, 2, "[############............]"}, {5, 4, "[########################]"}, {1, 0, ""}} {
		if got := bar(tc.n, tc.of, 26); got != tc.want {
			t.Errorf("bar(%d, %d, 26) = %s, want %s", tc.n, tc.of, got, tc.want)
		}
	}
}
