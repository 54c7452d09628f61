package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/secret"
)

// fileJournal is a Journal in an append-only file: one line for each Write,
// which names the session and says what the record is from then on. The
// invitation, which does not change, is in the first line of a session only. A
// crash can leave half a line at the end, which is then cut off: its Write had
// not returned. A line with a request notes a Claim, and nothing else. The file is rewritten when most of it is out of date.
type fileJournal struct {
	dir string

	journal sync.Mutex
	file    *os.File // nil before the first use
	lock    *os.File
	ledger  ledger
	size    int64 // of the file
	rewrite int64 // size at which it is rewritten
}

// line is a line of the file.
type line struct {
	SessionID  string      `json:"session_id"`
	Invitation *Invitation `json:"invitation,omitempty"`
	At         time.Time   `json:"at,omitzero"`
	Answer     Answer      `json:"answer,omitempty"`
	Attempt    int         `json:"attempt,omitempty"`
	Generated  string      `json:"generated,omitempty"`
	Ended      bool        `json:"ended,omitempty"`

	Request string    `json:"request,omitempty"`
	Until   time.Time `json:"until,omitzero"`
}

const (
	rewriteAtLeast = 8 << 20
	rewriteFactor  = 4 // times what it was after the last rewrite
)

// Write implements [Journal].
func (j *fileJournal) Write(_ context.Context, r Record) error {
	j.journal.Lock()
	defer j.journal.Unlock()
	if err := j.load(); err != nil {
		return err
	}
	id := r.Invitation.SessionID
	before, known := j.ledger.get(id)
	if before.Ended {
		return nil
	}
	text, err := encodeLine(r, !known && !r.Ended)
	if err != nil {
		return err
	}
	if err := j.append(text); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	j.ledger.set(r)
	if j.size < j.rewrite {
		return nil
	}
	return j.compact()
}

func encodeLine(r Record, whole bool) ([]byte, error) {
	l := line{
		SessionID: r.Invitation.SessionID, Answer: r.Answer, Attempt: r.Attempt, Generated: r.Generated, Ended: r.Ended,
	}
	if whole {
		l.Invitation, l.At = &r.Invitation, r.At
	}
	text, err := json.Marshal(l)
	if err != nil {
		return nil, fmt.Errorf("encode journal: %w", err)
	}
	return append(text, '\n'), nil
}

// Claim implements [Journal].
func (j *fileJournal) Claim(_ context.Context, requestID, sessionID string, until time.Time) (string, error) {
	j.journal.Lock()
	defer j.journal.Unlock()
	if err := j.load(); err != nil {
		return "", err
	}
	if c, ok := j.ledger.claims[requestID]; ok {
		return c.session, nil
	}
	text, err := encodeClaim(requestID, claim{sessionID, until})
	if err != nil {
		return "", err
	}
	if err := j.append(text); err != nil {
		return "", fmt.Errorf("write journal: %w", err)
	}
	j.ledger.claims[requestID] = claim{sessionID, until}
	return sessionID, nil
}

func encodeClaim(requestID string, c claim) ([]byte, error) {
	text, err := json.Marshal(line{SessionID: c.session, Request: requestID, Until: c.until})
	if err != nil {
		return nil, fmt.Errorf("encode journal: %w", err)
	}
	return append(text, '\n'), nil
}

// append writes at the end. What a failed write may have left there is cut off,
// so that the next line does not follow half of one.
func (j *fileJournal) append(text []byte) error {
	_, err := j.file.WriteAt(text, j.size)
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		return errors.Join(err, j.file.Truncate(j.size))
	}
	j.size += int64(len(text))
	return nil
}

// Read implements [Journal].
func (j *fileJournal) Read(_ context.Context, sessionID string) (Record, bool, error) {
	j.journal.Lock()
	defer j.journal.Unlock()
	if err := j.load(); err != nil {
		return Record{}, false, err
	}
	r, ok := j.ledger.get(sessionID)
	return r, ok, nil
}

// Open implements [Journal].
func (j *fileJournal) Open(context.Context) ([]Record, error) {
	j.journal.Lock()
	defer j.journal.Unlock()
	if err := j.load(); err != nil {
		return nil, err
	}
	return j.ledger.list(), nil
}

func (j *fileJournal) path() string { return filepath.Join(j.dir, "journal.log") }

// load locks the directory and reads the file, once.
func (j *fileJournal) load() error {
	if j.file != nil {
		return nil
	}
	lock, err := lockFile(filepath.Join(j.dir, "lock"))
	if err != nil {
		return err
	}
	if err := j.read(); err != nil {
		return errors.Join(err, lock.Close())
	}
	j.lock = lock
	return nil
}

func (j *fileJournal) read() error {
	content, err := os.ReadFile(j.path())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read journal: %w", err)
	}
	whole := content[:bytes.LastIndexByte(content, '\n')+1]
	ledger := newLedger()
	number := 0
	for text := range bytes.Lines(whole) {
		number++
		var l line
		if err := json.Unmarshal(text, &l); err != nil || l.SessionID == "" {
			// Going on could run again what must not be run twice.
			return fmt.Errorf("read journal: line %d of %s is damaged", number, j.path())
		}
		if l.Request != "" {
			ledger.claims[l.Request] = claim{l.SessionID, l.Until}
			continue
		}
		r, _ := ledger.get(l.SessionID)
		if l.Invitation != nil {
			r.Invitation, r.At = *l.Invitation, l.At
		}
		r.Invitation.SessionID = l.SessionID
		r.Answer, r.Attempt, r.Generated, r.Ended = l.Answer, l.Attempt, l.Generated, l.Ended
		ledger.set(r)
	}
	file, err := os.OpenFile(j.path(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open journal: %w", err)
	}
	if err := errors.Join(file.Truncate(int64(len(whole))), secret.SyncDir(j.dir)); err != nil {
		return errors.Join(fmt.Errorf("open journal: %w", err), file.Close())
	}
	j.file, j.ledger, j.size = file, ledger, int64(len(whole))
	j.rewrite = max(rewriteAtLeast, rewriteFactor*ledger.weight())
	return nil
}

// weight is roughly what the ledger takes in a file.
func (l *ledger) weight() int64 {
	n := int64(len(l.ended))*100 + int64(len(l.claims))*200
	for _, r := range l.open {
		n += int64(len(r.Invitation.Data)) + 1000
	}
	return n
}

// compact rewrites the file with what still matters: requests that have not
// expired, then ended sessions, for their order is that in which they are
// forgotten.
func (j *fileJournal) compact() error {
	var text bytes.Buffer
	add := func(r Record) error {
		l, err := encodeLine(r, !r.Ended)
		text.Write(l)
		return err
	}
	now := time.Now()
	maps.DeleteFunc(j.ledger.claims, func(_ string, c claim) bool { return now.After(c.until) })
	for id, c := range j.ledger.claims {
		l, err := encodeClaim(id, c)
		if err != nil {
			return err
		}
		text.Write(l)
	}
	for _, id := range slices.Concat(j.ledger.idle, j.ledger.begun) {
		r, _ := j.ledger.get(id)
		if err := add(r); err != nil {
			return err
		}
	}
	for _, r := range j.ledger.list() {
		if err := add(r); err != nil {
			return err
		}
	}
	if err := secret.WriteFile(j.path(), text.Bytes()); err != nil {
		return fmt.Errorf("rewrite journal: %w", err)
	}
	file, err := os.OpenFile(j.path(), os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("rewrite journal: %w", err)
	}
	old := j.file
	j.file, j.size = file, int64(text.Len())
	j.rewrite = max(rewriteAtLeast, rewriteFactor*j.size)
	return old.Close()
}

// close releases file and lock; a later use opens them again.
func (j *fileJournal) close() error {
	j.journal.Lock()
	defer j.journal.Unlock()
	if j.file == nil {
		return nil
	}
	err := errors.Join(j.file.Close(), j.lock.Close())
	j.file, j.lock = nil, nil
	return err
}
