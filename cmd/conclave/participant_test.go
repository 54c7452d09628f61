package main

import (
	"context"
	"errors"
	"io"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/client/participant"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

func noEnv(string) string { return "" }

// paper is a console's output, for a test that reads along.
type paper struct {
	mu   sync.Mutex
	text strings.Builder
}

func (p *paper) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

func (p *paper) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

var codeShown = regexp.MustCompile(`\[y ([0-9a-z]+)/n ([0-9a-z]+)\]`)

// question waits for the n-th question, and returns its code.
func (p *paper) question(t *testing.T, n int) string {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		all := codeShown.FindAllStringSubmatch(p.String(), -1)
		if len(all) >= n {
			if all[n-1][1] != all[n-1][2] {
				t.Fatalf("a question with two codes: %s", all[n-1][0])
			}
			return all[n-1][1]
		}
		if time.Now().After(deadline) {
			t.Fatalf("question %d does not come:\n%s", n, p)
		}
	}
}

// asking starts an asker whose stdin the test writes to.
func asking(t *testing.T) (a *asker, stderr *paper, stdin io.WriteCloser, ctx context.Context) {
	t.Helper()
	stderr = new(paper)
	in, stdin := io.Pipe()
	ctx, cancel := context.WithCancelCause(t.Context())
	a = &asker{console: newConsole(stderr, noEnv), waiting: func() int { return 0 }, lines: make(chan string), stop: cancel}
	done := make(chan struct{})
	go func() { defer close(done); a.read(ctx, in) }()
	t.Cleanup(func() { stdin.Close(); cancel(nil); <-done })
	return a, stderr, stdin, ctx
}

// verdict is the result of an approver.
type verdict struct {
	ok     bool
	reason string
	err    error
}

// asks has an asker ask in the background.
func asks(ctx context.Context, a *asker, inv participant.Invitation) <-chan verdict {
	answer := make(chan verdict, 1)
	go func() {
		ok, reason, err := a.approve(ctx, inv)
		answer <- verdict{ok, reason, err}
	}()
	return answer
}

func types(t *testing.T, stdin io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(stdin, text); err != nil {
		t.Fatal(err)
	}
}

func signing() participant.Invitation {
	return participant.Invitation{
		Kind: request.KindSign, SessionID: "sg-1", KeyID: "key-1", Coordinator: "dave", Curve: "secp256k1", Threshold: 2, PartIndex: 3,
		Participants: []string{"alice", "carol"}, Data: "pay\x1b[8m eve", Hash: "eip191", Digest: "0xd1", AccountAddr: "0xacc",
	}
}

// TestAnswersNameTheirQuestion: an answer counts only with the code of the question,
// and each time the question is put it has another.
func TestAnswersNameTheirQuestion(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		before []string // which must not answer
		answer string
		ok     bool
	}{
		{nil, "y CODE", true},
		{nil, " YES  CODE ", true},
		{nil, "n CODE", false},
		{nil, "No CODE", false},
		{[]string{"y", "yes", "n", "", "CODE", "y CODEX", "yCODE", "y CODE CODE", "y y", "what"}, "y CODE", true},
		{[]string{"show", "show CODE"}, "n CODE", false},
		{[]string{"", " "}, "y CODE", true},
	} {
		a, stderr, stdin, ctx := asking(t)
		answer := asks(ctx, a, signing())
		seen := map[string]bool{}
		put := func(text string) {
			code := stderr.question(t, len(seen)+1)
			if seen[code] || len(code) != codeLength {
				t.Fatalf("code %s is there again, or too short", code)
			}
			seen[code] = true
			types(t, stdin, strings.ReplaceAll(text, "CODE", code)+"\n")
		}
		for _, text := range tc.before {
			put(text)
			stderr.question(t, len(seen)+1)
		}
		put(tc.answer)
		if got := <-answer; got.ok != tc.ok || got.err != nil || got.ok != (got.reason == "") {
			t.Errorf("answer %q: %+v", tc.answer, got)
		}
		for _, shown := range []string{
			"dave asks you to sign with key key-1", "0xacc", `"pay\x1b[8m eve"`, "eip191", "0xd1", "alice, carol", "2 must sign", "sg-1", "sign with key-1 for dave? [y ",
		} {
			if !strings.Contains(stderr.String(), shown) {
				t.Errorf("the question does not show %s:\n%s", shown, stderr)
			}
		}
		if strings.Contains(stderr.String(), "\x1b") {
			t.Error("the question has a control character")
		}
		if hints := strings.Count(stderr.String(), "not answered yet"); hints > 0 != (len(tc.before) > 2) {
			t.Errorf("%d hints after %q", hints, tc.before)
		}
	}
}

// TestAnswerToAQuestionThatIsOver: alice makes a request, cancels while bob types,
// and makes another. His input answers neither, and he is told.
func TestAnswerToAQuestionThatIsOver(t *testing.T) {
	t.Parallel()
	for _, typed := range []string{"y OLD", "n OLD", "y", "n", ""} {
		a, stderr, stdin, ctx := asking(t)
		first, cancel := context.WithCancelCause(ctx)
		answers := asks(first, a, signing())
		old := stderr.question(t, 1)
		other := signing()
		other.SessionID, other.Data = "sg-2", "pay mallory"
		next := asks(ctx, a, other)
		cancel(&request.OutcomeError{Kind: request.KindSign, SessionID: "sg-1", Status: wire.StatusCancelled, Reason: "cancelled by dave"})
		code := stderr.question(t, 2)
		if got := <-answers; got.ok || !errors.Is(got.err, context.Canceled) {
			t.Errorf("the first question: %+v", got)
		}
		if want := "conclave: question " + old + " expired without an answer: sign sg-1 with key key-1 for dave: cancelled by dave\n"; !strings.Contains(stderr.String(), want) {
			t.Errorf("does not say %q:\n%s", want, stderr)
		}
		types(t, stdin, strings.ReplaceAll(typed, "OLD", old)+"\n")
		last := stderr.question(t, 3)
		select {
		case got := <-next:
			t.Fatalf("%q answered the second question (its code %s): %+v", typed, code, got)
		default:
		}
		types(t, stdin, "y "+last+"\n")
		if got := <-next; !got.ok {
			t.Errorf("the second question: %+v", got)
		}
	}
}

func TestQuestionIsNotPutTooLate(t *testing.T) {
	t.Parallel()
	a, stderr, _, ctx := asking(t)
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if ok, _, err := a.approve(ctx, signing()); ok || !errors.Is(err, context.Canceled) {
		t.Errorf("got %t, %v", ok, err)
	}
	if stderr.String() != "" {
		t.Errorf("asked about what has ended: %s", stderr)
	}
	if _, _, err := a.ask(ctx, signing()); !errors.Is(err, context.Canceled) || !strings.Contains(stderr.String(), "expired without an answer: sign sg-1 with key key-1 for dave: this participant stops; the next start asks again") {
		t.Errorf("got %v, said %s", err, stderr)
	}
}

// TestQuestionSaysHowManyWait, since they are asked about one after the other.
func TestQuestionSaysHowManyWait(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{0: "", 1: "waiting    1 more request,", 1234: "waiting    1,234 more requests,"} {
		a, stderr, stdin, ctx := asking(t)
		a.waiting = func() int { return n }
		answer := asks(ctx, a, signing())
		types(t, stdin, "n "+stderr.question(t, 1)+"\n")
		<-answer
		if text := stderr.String(); !strings.Contains(text, want) || strings.Contains(text, "waiting") != (n > 0) {
			t.Errorf("%d wait:\n%s", n, text)
		}
	}
}

// TestNobodyToAsk: the end of stdin ends the participant.
func TestNobodyToAsk(t *testing.T) {
	t.Parallel()
	_, _, stdin, ctx := asking(t)
	stdin.Close()
	<-ctx.Done()
	if cause := context.Cause(ctx); !errors.Is(cause, errNobodyToAsk) {
		t.Errorf("cause is %v", cause)
	}
	// A line without an end is not an answer.
	a, stderr, stdin, ctx := asking(t)
	answer := asks(ctx, a, signing())
	types(t, stdin, "y "+stderr.question(t, 1))
	stdin.Close()
	if got := <-answer; got.ok || got.err == nil || !errors.Is(context.Cause(ctx), errNobodyToAsk) {
		t.Errorf("got %+v; ended by %v", got, context.Cause(ctx))
	}
}

func TestLongLineIsNoAnswer(t *testing.T) {
	t.Parallel()
	a, stderr, stdin, ctx := asking(t)
	answer := asks(ctx, a, signing())
	code := stderr.question(t, 1)
	types(t, stdin, strings.Repeat("x", 10_000)+" y "+code+"\n")
	types(t, stdin, "n "+stderr.question(t, 2)+"\n")
	if got := <-answer; got.ok || got.reason != "declined by hand" {
		t.Errorf("got %+v", got)
	}
}

// TestCodesCannotBeGuessed: they have no letters or digits that can be confused, and
// are random.
func TestCodesCannotBeGuessed(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 1000 {
		code := newCode()
		if len(code) != codeLength || strings.Trim(code, codeSigns) != "" || strings.ContainsAny(code, "01oilaeuy") {
			t.Fatalf("code %q", code)
		}
		seen[code] = true
	}
	if len(seen) < 990 { // of 531,441
		t.Errorf("%d codes of 1000 are different", len(seen))
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
