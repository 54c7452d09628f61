package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/client/participant"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
)

// script makes an approving command from the text of a shell script.
func script(t *testing.T, stderr *strings.Builder, text string) participant.Approver {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("needs a shell")
	}
	path := filepath.Join(t.TempDir(), "approve")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	env := func(name string) string {
		if name == "CONCLAVE_TOKEN" {
			return "secret"
		}
		return os.Getenv(name)
	}
	c := &cli{console: newConsole(stderr, noEnv), env: env}
	approve, err := c.approval("exec:" + path + " one two")
	if err != nil {
		t.Fatal(err)
	}
	return approve
}

func pinnedRequest() participant.Invitation {
	inv := signing()
	inv.Signer = &participant.Signer{Fingerprint: "FINGER", Pinned: true, Nonce: "n0"}
	return inv
}

func TestCommandApproves(t *testing.T) {
	t.Setenv("CONCLAVE_TOKEN", "secret")
	for name, tc := range map[string]struct {
		text   string
		ok     bool
		reason string
		failed bool
	}{
		"yes":             {"exit 0", true, "", false},
		"yes, with words": {"echo fine; echo more", true, "fine", false},
		"no":              {"exit 1", false, "declined by a command", false},
		"no, with words":  {"echo '  too much '; echo more; exit 3", false, "too much", false},
		"killed":          {"kill -9 $$", false, "", true},
		"arguments":       {`test "$*" = "one two"`, true, "", false},
		"no secrets":      {`env | grep -q CONCLAVE && exit 1; exit 0`, true, "", false},
		"a lot of output": {"yes | head -c 1000000; exit 0", true, "y", false},
	} {
		var stderr strings.Builder
		ok, reason, err := script(t, &stderr, tc.text)(t.Context(), pinnedRequest())
		if ok != tc.ok || reason != tc.reason || (err != nil) != tc.failed {
			t.Errorf("%s: got %t, %q, %v", name, ok, reason, err)
		}
	}
}

func TestCommandGetsTheRequest(t *testing.T) {
	out := filepath.Join(t.TempDir(), "request")
	var stderr strings.Builder
	inv := pinnedRequest()
	if ok, _, err := script(t, &stderr, "cat > "+out+"; printf 'a\\033[2Jb\\n' >&2")(t.Context(), inv); !ok || err != nil {
		t.Fatalf("%t, %v", ok, err)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var got participant.Invitation
	if err := json.Unmarshal(text, &got); err != nil || got.Data != inv.Data || got.Coordinator != "dave" || got.Signer.Fingerprint != "FINGER" || got.Digest != "0xd1" {
		t.Errorf("the command got %s, %v", text, err)
	}
	if !strings.Contains(stderr.String(), "approve: a?[2Jb") {
		t.Errorf("what it says on stderr is shown as %q", stderr.String())
	}
}

// TestCommandIsNotAsked: the command is not run for a requester that is not pinned,
// nor waited for beyond the deadline.
func TestCommandIsNotAsked(t *testing.T) {
	ran := filepath.Join(t.TempDir(), "ran")
	var stderr strings.Builder
	approve := script(t, &stderr, "touch "+ran)
	for _, signer := range []*participant.Signer{nil, {Fingerprint: "FINGER"}} {
		inv := pinnedRequest()
		inv.Signer = signer
		if ok, reason, err := approve(t.Context(), inv); ok || reason == "" || err != nil {
			t.Errorf("signer %+v: %t, %q, %v", signer, ok, reason, err)
		}
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("the command ran")
	}
	slow := pinnedRequest()
	slow.Deadline = time.Now().Add(300 * time.Millisecond)
	if ok, reason, err := script(t, &stderr, "exec sleep 600")(t.Context(), slow); ok || !strings.Contains(reason, "too long") || err != nil {
		t.Errorf("got %t, %q, %v", ok, reason, err)
	}
}

// TestQuestionSaysWhoSigned: the signed fields and the signer, or that the request
// is unsigned.
func TestQuestionSaysWhoSigned(t *testing.T) {
	c := newConsole(new(strings.Builder), noEnv)
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.Local)
	for want, signer := range map[string]*participant.Signer{
		"NOT SIGNED: only the server names the coordinator": nil,
		"FINGER, pinned":            {Fingerprint: "FINGER", Pinned: true, IssuedAt: at, ExpiresAt: at.Add(time.Hour), Nonce: "n0"},
		"as before, but not pinned": {Fingerprint: "FINGER", IssuedAt: at, ExpiresAt: at.Add(time.Hour), Nonce: "n0"},
		"SEEN FOR THE FIRST TIME: compare it with the owner before you agree": {Fingerprint: "FINGER", First: true, IssuedAt: at, ExpiresAt: at.Add(time.Hour), Nonce: "n0"},
	} {
		inv := signing()
		inv.Signer = signer
		text := shownRequest(c, inv, 0, true)
		wants := []string{want}
		if signer != nil {
			wants = append(wants, "2026-03-01 12:00:00", "2026-03-01 13:00:00", "n0")
		}
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("the question does not show %q:\n%s", want, text)
			}
		}
	}
}

// TestNamesSeenForTheFirstTime: a name that looks like another's is marked, until
// its owner is known.
func TestNamesSeenForTheFirstTime(t *testing.T) {
	c := newConsole(new(strings.Builder), noEnv)
	inv := signing()
	inv.Kind, inv.KeyID = request.KindKeygen, "\u0441\u0430\u0441\u0430" // all Cyrillic
	inv.Coordinator, inv.Participants = "\u0430\u0441\u0435", []string{"bob", "\u0435\u0443\u0435", "carol\u3164"}
	const asker = "asked by   \u0430\u0441\u0435 (U+0430 Cyrillic, U+0441 Cyrillic, U+0435 Cyrillic)\n"
	for _, want := range []string{
		asker, "key        \u0441\u0430\u0441\u0430 (U+0441 Cyrillic, U+0430 Cyrillic)\n",
		"held by    bob, \u0435\u0443\u0435 (U+0435 Cyrillic, U+0443 Cyrillic), \"carol\\u3164\" (an\n             unusual name: look closely)\n",
	} {
		if text := shownRequest(c, inv, 0, false); !strings.Contains(text, want) {
			t.Errorf("the question does not show %q:\n%s", want, text)
		}
	}
	inv.Signer = &participant.Signer{Fingerprint: "FINGER", First: true}
	if text := shownRequest(c, inv, 0, false); !strings.Contains(text, asker) {
		t.Errorf("signed, and seen for the first time:\n%s", text)
	}
	inv.Signer.First = false
	if text := shownRequest(c, inv, 0, false); !strings.Contains(text, "asked by   \u0430\u0441\u0435\n") {
		t.Errorf("known by now:\n%s", text)
	}
}

// TestChangedIdentityIsLoud: both fingerprints, and the remedy.
func TestChangedIdentityIsLoud(t *testing.T) {
	var stderr strings.Builder
	d := display{console: newConsole(&stderr, noEnv)}
	d.event(request.IdentityChanged{IdentityError: trust.IdentityError{User: "dave", Known: "OLD-ONE", Now: "NEW-ONE", Pinned: true}})
	d.event(participant.Convicted{SessionID: "kg-1", PartIndex: 2, User: "bob", Kept: "/home/evidence/x.json"})
	for _, want := range []string{
		"REFUSED: dave", "pinned    OLD-ONE", "now       NEW-ONE", "conclave trust remove dave && conclave trust add dave NEW-ONE",
		"CAUGHT: bob (part 2)", "/home/evidence/x.json", "conclave verify --evidence",
	} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("does not say %q:\n%s", want, stderr.String())
		}
	}
}
