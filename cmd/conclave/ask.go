package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"strings"
	"sync"

	"github.com/conclave-mpc/conclave/wsconn/client/participant"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
)

// A typed answer must be meant for the question that is shown. So an answer repeats
// a code that is shown with the question and was generated for it alone: input typed
// earlier does not contain it. The code does not depend on the request; a server can
// neither choose nor know it.

const (
	codeLength = 4
	// codeSigns are digits and consonants that cannot be confused with each other,
	// so that no code is a word or an answer.
	codeSigns = "23456789bcdfghjkmnpqrstvwxz"
)

// newCode generates a code.
func newCode() string {
	var code []byte
	for len(code) < codeLength {
		var b [1]byte
		_, _ = rand.Read(b[:]) // never fails
		if int(b[0]) < 256/len(codeSigns)*len(codeSigns) {
			code = append(code, codeSigns[int(b[0])%len(codeSigns)])
		}
	}
	return string(code)
}

// reply is the answer to a question.
type reply int

const (
	unclear reply = iota
	accept
	decline
	again // put the question again, as for a terminal that was attached later
	show
)

// replyOf reads an answer to the question with a code. Asking to see more is
// harmless, and needs no code.
func replyOf(line, code string) reply {
	words := strings.Fields(strings.ToLower(line))
	if len(words) == 0 {
		return again
	}
	if len(words) == 1 && words[0] == "show" {
		return show
	}
	if len(words) != 2 || words[1] != code {
		return unclear
	}
	switch words[0] {
	case "y", "yes":
		return accept
	case "n", "no":
		return decline
	case "show":
		return show
	}
	return unclear
}

var errNobodyToAsk = errors.New("stdin has ended, so requests cannot be confirmed; to approve all of them, use --approve always")

// asker asks about one invitation at a time; the client decides their order. Its
// methods are safe for concurrent use.
type asker struct {
	console  *console
	terminal bool       // stdin is a terminal
	flush    func()     // drops input that was typed and not read yet; may be nil
	waiting  func() int // number of invitations waiting after this one
	lines    chan string
	stop     context.CancelCauseFunc // ends the participant

	turn sync.Mutex
}

// read reads answers until stdin ends. Stdin that is empty from the beginning is a
// mistake and reported at once; otherwise its end is reported when a question is
// asked. A line without an end is not an answer.
func (a *asker) read(ctx context.Context, stdin io.Reader) {
	in := bufio.NewReader(stdin)
	any := false
	for {
		line, err := readLine(in)
		if err != nil {
			break
		}
		any = true
		select {
		case a.lines <- line:
		case <-ctx.Done():
			return
		}
	}
	if !any {
		a.stop(errNobodyToAsk)
	}
	close(a.lines)
}

// readLine returns only the beginning of a line that is longer than any answer.
func readLine(in *bufio.Reader) (string, error) {
	line, err := in.ReadSlice('\n')
	text := string(line)
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = in.ReadSlice('\n')
	}
	return text, err
}

// approve is a [participant.Approver].
func (a *asker) approve(ctx context.Context, inv participant.Invitation) (bool, string, error) {
	a.turn.Lock()
	defer a.turn.Unlock()
	if ctx.Err() != nil {
		return false, "", ctx.Err()
	}
	return a.ask(ctx, inv)
}

// put puts the question with a new code, which it returns. Input typed before is
// dropped: whole lines and the beginning of one.
func (a *asker) put(text string, inv participant.Invitation) (code string) {
	if a.flush != nil {
		a.flush()
		select {
		case <-a.lines: // a line that was read already
		default:
		}
	}
	code = newCode()
	a.console.ask(text, questionOf(a.console, inv, code))
	return code
}

// ask puts the question until it is answered.
func (a *asker) ask(ctx context.Context, inv participant.Invitation) (bool, string, error) {
	code := a.put(shownRequest(a.console, inv, a.waiting(), false), inv)
	for {
		select {
		case line, ok := <-a.lines:
			a.console.answered(ok && a.terminal)
			switch {
			case ctx.Err() != nil:
				return a.over(ctx, inv, code)
			case !ok:
				a.stop(errNobodyToAsk)
				return false, "", errNobodyToAsk
			}
			switch said := replyOf(line, code); said {
			case accept:
				return true, "", nil
			case decline:
				return false, "declined by hand", nil
			case show, again:
				if said == show {
					a.console.print(shownRequest(a.console, inv, 0, true))
				}
				code = a.put(shownRequest(a.console, inv, a.waiting(), false), inv)
			case unclear:
				const hint = "conclave: not answered yet: type y or n with the code below, or show to see all of it\n"
				code = a.put(hint, inv)
			}
		case <-ctx.Done():
			a.console.answered(false)
			return a.over(ctx, inv, code)
		}
	}
}

// over reports that a question has ended without an answer, and why.
func (a *asker) over(ctx context.Context, inv participant.Invitation, code string) (bool, string, error) {
	var out *request.OutcomeError
	why := "this participant stops; the next start asks again"
	switch {
	case errors.As(context.Cause(ctx), &out):
		why = out.Outcome()
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		why = "its deadline has passed"
	}
	a.console.say("question %s expired without an answer: %s: %s", code, gist(inv), clean(why))
	return false, "", ctx.Err()
}
