package dirstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/client/clienttest"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
)

// errPower is every operation's error after the power failure.
var errPower = errors.New("the power is out")

// frail is a disk that loses power at a step. Unsynced changes may then be lost:
// content, names, or both.
type frail struct {
	left    int // operations until the power fails; below 0 never
	names   map[string]*frailFile
	durable map[string]*frailFile // names after a crash
}

type frailFile struct {
	disk    *frail
	content []byte
	durable []byte
}

func newFrail() *frail {
	return &frail{left: -1, names: map[string]*frailFile{}, durable: map[string]*frailFile{}}
}

func (d *frail) step() error {
	if d.left == 0 {
		return errPower
	}
	d.left--
	return nil
}

func (d *frail) Open(path string, flag int) (diskFile, error) {
	if err := d.step(); err != nil {
		return nil, err
	}
	f := d.names[path]
	if f == nil {
		f = &frailFile{disk: d}
		d.names[path] = f
	}
	if flag&os.O_TRUNC != 0 {
		f.content = nil
	}
	return f, nil
}

func (d *frail) Rename(from, to string) error {
	if err := d.step(); err != nil {
		return err
	}
	d.names[to] = d.names[from]
	delete(d.names, from)
	return nil
}

func (d *frail) Remove(path string) error {
	if err := d.step(); err != nil {
		return err
	}
	delete(d.names, path)
	return nil
}

func (d *frail) SyncDir(string) error {
	if err := d.step(); err != nil {
		return err
	}
	d.durable = maps.Clone(d.names)
	return nil
}

// crash is the disk after the power failure. Names and content say which unsynced
// changes have reached the disk all the same, content in part.
func (d *frail) crash(names, content bool) *frail {
	after := newFrail()
	list := d.durable
	if names {
		list = d.names
	}
	for path, f := range list {
		kept := f.durable
		if content && len(f.content) > len(kept) {
			kept = f.content[:(len(kept)+len(f.content)+1)/2] // a torn write
		}
		after.names[path] = &frailFile{disk: after, content: slices.Clone(kept), durable: slices.Clone(kept)}
	}
	after.durable = maps.Clone(after.names)
	return after
}

func (f *frailFile) ReadAt(p []byte, at int64) (int, error) {
	if at >= int64(len(f.content)) {
		return 0, io.EOF
	}
	n := copy(p, f.content[at:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *frailFile) WriteAt(p []byte, at int64) (int, error) {
	err := f.disk.step()
	if err != nil {
		p = p[:len(p)*2/3] // a full disk writes a part
	}
	if short := at + int64(len(p)) - int64(len(f.content)); short > 0 {
		f.content = append(f.content, make([]byte, short)...)
	}
	copy(f.content[at:], p)
	return len(p), err
}

func (f *frailFile) Truncate(size int64) error {
	if err := f.disk.step(); err != nil {
		return err
	}
	f.content = f.content[:size]
	return nil
}

func (f *frailFile) Sync() error {
	if err := f.disk.step(); err != nil {
		return err
	}
	f.durable = slices.Clone(f.content)
	return nil
}

func (f *frailFile) Close() error { return nil }

// TestJournalPowerCut cuts the power at each step of a journal's life, with a
// rewrite in it, and checks that everything written is still there.
func TestJournalPowerCut(t *testing.T) {
	dir := t.TempDir()
	// life writes until it fails, and returns the records that must survive.
	life := func(d *frail) (promised []participant.Record, claimed bool, err error) {
		j := &fileJournal{dir: dir, testingOnlyDisk: d}
		defer func() { _ = j.close() }()
		put := func(r participant.Record) bool {
			if err = j.Write(t.Context(), r); err == nil {
				promised = append(promised, r)
			}
			return err == nil
		}
		for i := range 3 {
			if !put(record(fmt.Sprint("s", i), participant.Accepted, i)) {
				return promised, claimed, err
			}
		}
		if _, err = j.Claim(t.Context(), "r", "s1", time.Now().Add(time.Hour)); err != nil {
			return promised, claimed, err
		}
		claimed = true
		j.journal.Lock()
		err = j.rewrite()
		j.journal.Unlock()
		// It may fail without harm: later writes must survive all the same, or fail.
		over := record("s2", participant.Accepted, 2)
		over.Ended = true
		_ = put(over) && put(record("s0", participant.Accepted, 5)) && put(record("s3", "", 0))
		return promised, claimed, err
	}
	whole := newFrail()
	whole.left = 1 << 20
	if _, _, err := life(whole); err != nil {
		t.Fatal(err)
	}
	steps := 1<<20 - whole.left
	if steps < 15 {
		t.Fatalf("a life has %d steps only", steps)
	}
	for step := range steps + 1 {
		for i := range 4 {
			names, content := i&1 != 0, i&2 != 0
			d := newFrail()
			d.left = step
			promised, claimed, _ := life(d)
			j := &fileJournal{dir: dir, testingOnlyDisk: d.crash(names, content)}
			if err := survives(j, promised, claimed); err != nil {
				t.Errorf("power cut at step %d (names %t, content %t): %v", step, names, content, err)
			}
			// Without a crash, but with the one failure, nothing is lost either.
			d.left = -1
			j = &fileJournal{dir: dir, testingOnlyDisk: d}
			if err := survives(j, promised, claimed); err != nil {
				t.Errorf("failure at step %d: %v", step, err)
			}
		}
	}
}

// TestJournalOneFailure lets one operation fail after the other, and only that one:
// later writes survive a crash.
func TestJournalOneFailure(t *testing.T) {
	dir := t.TempDir()
	for step := range 80 {
		d := newFrail()
		j := &fileJournal{dir: dir, testingOnlyDisk: d}
		var promised []participant.Record
		put := func(r participant.Record) {
			if err := j.Write(t.Context(), r); err == nil {
				promised = append(promised, r)
			}
			if d.left == 0 {
				d.left = -1 // one failure, and then none
			}
		}
		put(record("s0", participant.Accepted, 1))
		d.left = step / 2
		put(record("s1", participant.Accepted, 1))
		put(record("s0", participant.Accepted, 2)) // whose line is shorter: half of the other must not follow it
		if step%2 == 0 {
			j.journal.Lock()
			_ = j.rewrite() // its failure is under test
			j.journal.Unlock()
			if d.left == 0 {
				d.left = -1
			}
			put(record("s2", participant.Accepted, 1))
		}
		d.left = -1
		if err := j.close(); err != nil {
			t.Fatal(err)
		}
		if err := survives(&fileJournal{dir: dir, testingOnlyDisk: d.crash(false, false)}, promised, false); err != nil {
			t.Errorf("failure at step %d: %v", step, err)
		}
	}
}

// survives checks that a journal has all that it must.
func survives(j *fileJournal, promised []participant.Record, claimed bool) error {
	ctx := context.Background()
	defer func() { _ = j.close() }()
	last := map[string]participant.Record{}
	for _, r := range promised {
		last[r.Invitation.SessionID] = r
	}
	for id, want := range last {
		r, ok, err := j.Read(ctx, id)
		if err != nil {
			return err
		}
		if !ok || r.Attempt < want.Attempt || want.Ended && !r.Ended || !want.Ended && !r.Ended && r.Invitation.Data != want.Invitation.Data {
			return fmt.Errorf("%s is %+v, want %+v", id, r, want)
		}
	}
	if claimed {
		if first, err := j.Claim(ctx, "r", "other", time.Now().Add(time.Hour)); first != "s1" || err != nil {
			return fmt.Errorf("the claim is of %q, %v", first, err)
		}
	}
	return nil
}

// TestOldJournal reads a journal of the release before this one: the file in
// testdata is its own, with sessions in every state and one that has run and ended.
func TestOldJournal(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "home")
	s := dirStore(t, dir)
	text, err := os.ReadFile("testdata/journal-1.log")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.path(), text, 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		open, err := s.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range open {
			got = append(got, fmt.Sprint(r.Invitation.SessionID, " ", r.Answer, " ", r.Attempt, " ", r.Invitation.Data))
		}
		clienttest.Want(t, when, got, []string{"asked  0 pay", "declined declined 0 ", "running accepted 2 pay", "yes accepted 0 pay"})
		if r, ok, err := s.Read(t.Context(), "over"); !ok || !r.Ended || r.Attempt != 3 || err != nil {
			t.Errorf("%s: the session that ran is %+v, %t, %v", when, r, ok, err)
		}
		if r, ok, err := s.Read(t.Context(), "cancelled"); !ok || !r.Ended || err != nil {
			t.Errorf("%s: the session that was cancelled is %+v, %t, %v", when, r, ok, err)
		}
		if first, err := s.Claim(t.Context(), "request", "other", time.Now().Add(time.Hour)); first != "yes" || err != nil {
			t.Errorf("%s: the claim is of %q, %v", when, first, err)
		}
	}
	check("as it was")
	if err := errors.Join(s.rewrite(), s.Close()); err != nil {
		t.Fatal(err)
	}
	check("rewritten")
}

// TestOldJournalShrinks: one that an earlier version has let grow is read without
// loading it whole, and rewritten.
func TestOldJournalShrinks(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "home")
	s := dirStore(t, dir)
	f, err := os.Create(s.path())
	if err != nil {
		t.Fatal(err)
	}
	out := json.NewEncoder(f)
	for i := range 200 {
		r := record(fmt.Sprint("s", i), "", 0)
		r.Invitation.Data = strings.Repeat("d", 128<<10)
		r.Invitation.SignedRequest = strings.Repeat("j", 255<<10)
		first := line{SessionID: r.Invitation.SessionID, Invitation: &r.Invitation, At: r.At}
		if err := errors.Join(out.Encode(first), out.Encode(line{SessionID: first.SessionID, Answer: participant.Declined})); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	before, was := heap(), journalSize(t, dir)
	if r, ok, err := s.Read(t.Context(), "s7"); !ok || r.Answer != participant.Declined || err != nil {
		t.Errorf("got %+v, %t, %v", r, ok, err)
	}
	grown, is := heap()-before, journalSize(t, dir)
	t.Logf("%d KiB became %d, the heap has grown by %d KiB", was>>10, is>>10, grown>>10)
	if is > 1<<20 || grown > 4<<20 {
		t.Errorf("%d bytes are left of %d, and the heap has grown by %d", is, was, grown)
	}
}

func TestJournalLinesAreBounded(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "home")
	s := dirStore(t, dir)
	text := `{"session_id":"` + strings.Repeat("s", maxLine) + `"}` + "\n"
	if err := os.WriteFile(s.path(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "line 1 of") || !strings.Contains(err.Error(), "too long") {
		t.Errorf("got %v", err)
	}
}

// TestEvidenceIsBounded: a few pieces are kept against one identity, and only as
// many against all as a directory may hold.
func TestEvidenceIsBounded(t *testing.T) {
	s := dirStore(t, filepath.Join(t.TempDir(), "home"))
	id := partytest.Identity(t).Public()
	piece := func(session string, id identity.Public) *statement.Evidence {
		return &statement.Evidence{
			Version: 1, Protocol: "sign", SessionID: session, Attempt: 1, From: 1,
			Parties: []identity.Member{{Index: 1, User: "bob", Identity: id}},
		}
	}
	kept := map[string]bool{}
	for i := range 3 * maxEvidenceEach {
		where, err := s.PutEvidence(t.Context(), piece(fmt.Sprint("s", i), id))
		if err != nil {
			t.Fatal(err)
		}
		kept[where] = true
	}
	if len(kept) != maxEvidenceEach {
		t.Errorf("%d pieces against one identity are kept, want %d", len(kept), maxEvidenceEach)
	}
	dir := filepath.Join(s.dir, "evidence")
	for i := len(kept); i < maxEvidence; i++ {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("other", i, ".json")), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if where, err := s.PutEvidence(t.Context(), piece("s0", id)); err != nil || !kept[where] {
		t.Errorf("what is kept already: got %s, %v", where, err)
	}
	if _, err := s.PutEvidence(t.Context(), piece("t", partytest.Identity(t).Public())); !errors.Is(err, errEvidenceFull) {
		t.Errorf("got %v, want errEvidenceFull", err)
	}
}

// TestKnownIsReadWhenItChanges: the file is not read for every request, and a
// change by hand is seen.
func TestKnownIsReadWhenItChanges(t *testing.T) {
	s := dirStore(t, filepath.Join(t.TempDir(), "home"))
	id := partytest.Identity(t).Public()
	if err := s.Pin("alice", id.Fingerprint()); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(s.knownFile(), old, old); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if k, ok, err := s.Known("alice"); !ok || !k.Pinned || err != nil {
			t.Errorf("got %+v, %t, %v", k, ok, err)
		}
	}
	if s.knownCache.info == nil {
		t.Error("the file is read again and again")
	}
	other, err := Open(s.dir) // as conclave trust does
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Pin("bob", id.Fingerprint()); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := s.Known("bob"); !ok || err != nil {
		t.Errorf("a pin beside it is not seen: %t, %v", ok, err)
	}
	if err := os.WriteFile(s.knownFile(), make([]byte, maxKnownBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Known("bob"); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("got %v", err)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func journalSize(t *testing.T, dir string) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(dir, "journal.log"))
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
