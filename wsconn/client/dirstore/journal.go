package dirstore

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/client/participant"
	"github.com/conclave-mpc/conclave/wsconn/secret"
)

// fileJournal is a Journal in an append-only file: one line for each Write, with
// the session and its new record. Only a session's first line has the invitation,
// which does not change. A crash can leave half a line at the end, which is then
// cut off: its Write had not returned. A line with a request records a Claim, and
// one with a sum a session that has ended, and nothing else.
//
// The file is rewritten when it is larger than twice its live content, and
// journalSlack: into a new file, which is on disk before it replaces the other. A
// crash leaves the one or the other, both whole.
type fileJournal struct {
	dir string

	// testingOnlyDisk replaces the operating system's files. Nil outside tests.
	testingOnlyDisk disk

	journal sync.Mutex
	file    diskFile // nil before the first use
	lock    *os.File
	ledger  *participant.Ledger
	bytes   map[participant.SessionSum]int64 // of open sessions: their size in a rewritten file
	size    int64                            // of the file
	retry   int64                            // size at which a failed rewrite is retried
	torn    bool                             // half a line may follow size
	moved   bool                             // the file's name may not be on disk yet
	pending []byte                           // lines written with the next ones
	late    int                              // how many lines are pending
}

// line is a line of the file.
type line struct {
	SessionID  string                  `json:"session_id,omitempty"`
	Sum        string                  `json:"sum,omitempty"` // instead of the id of an ended session, base64
	Invitation *participant.Invitation `json:"invitation,omitempty"`
	At         time.Time               `json:"at,omitzero"`
	Answer     participant.Answer      `json:"answer,omitempty"`
	Attempt    int                     `json:"attempt,omitempty"`
	Generated  string                  `json:"generated,omitempty"`
	Ended      bool                    `json:"ended,omitempty"`
	Rank       participant.Rank        `json:"rank,omitempty"`

	Request string    `json:"request,omitempty"`
	Until   time.Time `json:"until,omitzero"`
}

const (
	journalFactor = 2       // times the live content, and
	journalSlack  = 1 << 20 // bytes, are the file's limit

	maxLate = 64      // lines that need not be durable at once
	maxLine = 4 << 20 // bytes of a line; that of the largest invitation has less

	// Sizes of lines without other content, in bytes.
	endedLine    = 64
	claimLine    = 280  // at most
	declinedLine = 1200 // for the record of a declined invitation, at most
)

// Write implements [participant.Journal].
func (j *fileJournal) Write(_ context.Context, r participant.Record) error {
	j.journal.Lock()
	defer j.journal.Unlock()
	if err := j.load(); err != nil {
		return err
	}
	id := r.Invitation.SessionID
	before, known := j.ledger.Get(id)
	if before.Ended {
		return nil
	}
	if r.Ended && r.Answer == participant.Declined && r.Attempt == 0 {
		return j.later(r)
	}
	text, err := encodeLine(r, !known && !r.Ended)
	if err != nil {
		return err
	}
	if err := j.append(text); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	j.set(r, int64(len(text)))
	return j.tidy()
}

// later adds a line that a crash may lose.
func (j *fileJournal) later(r participant.Record) error {
	j.set(r, 0)
	text, err := encodeEnded(participant.SumOf(r.Invitation.SessionID), r)
	if err != nil {
		return err
	}
	j.pending = append(j.pending, text...)
	if j.late++; j.late < maxLate {
		return nil
	}
	if err := j.append(nil); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return j.tidy()
}

// set changes the ledger. Written is the size of the line with the whole record, if
// there was one.
func (j *fileJournal) set(r participant.Record, written int64) {
	sum := participant.SumOf(r.Invitation.SessionID)
	switch changed := j.ledger.Set(r); {
	case !changed:
	case r.Ended:
		delete(j.bytes, sum)
	case r.Answer == participant.Declined:
		j.bytes[sum] = declinedLine
	default:
		j.bytes[sum] = max(j.bytes[sum], written)
	}
}

func encodeLine(r participant.Record, whole bool) ([]byte, error) {
	l := line{
		SessionID: r.Invitation.SessionID, Answer: r.Answer, Attempt: r.Attempt, Generated: r.Generated, Ended: r.Ended, Rank: r.Rank,
	}
	if whole {
		l.Invitation, l.At = &r.Invitation, r.At
	}
	return encode(l)
}

// encodeEnded makes the shortest line for an ended session.
func encodeEnded(sum participant.SessionSum, r participant.Record) ([]byte, error) {
	l := line{Sum: base64.RawURLEncoding.EncodeToString(sum[:]), Attempt: r.Attempt}
	if r.Attempt == 0 {
		l.Answer = r.Answer
	}
	return encode(l)
}

func encodeClaim(requestID string, c participant.Claim) ([]byte, error) {
	return encode(line{SessionID: c.SessionID, Request: requestID, Until: c.Until})
}

func encode(l line) ([]byte, error) {
	text, err := json.Marshal(l)
	if err != nil {
		return nil, fmt.Errorf("encode journal: %w", err)
	}
	return append(text, '\n'), nil
}

// Claim implements [participant.Journal].
func (j *fileJournal) Claim(_ context.Context, requestID, sessionID string, until time.Time) (string, error) {
	j.journal.Lock()
	defer j.journal.Unlock()
	if err := j.load(); err != nil {
		return "", err
	}
	if c, ok := j.ledger.Claimed(requestID); ok {
		return c.SessionID, nil
	}
	if err := j.ledger.RoomForClaim(time.Now()); err != nil {
		return "", err
	}
	text, err := encodeClaim(requestID, participant.Claim{SessionID: sessionID, Until: until})
	if err != nil {
		return "", err
	}
	if err := j.append(text); err != nil {
		return "", fmt.Errorf("write journal: %w", err)
	}
	j.ledger.AddClaim(requestID, participant.Claim{SessionID: sessionID, Until: until})
	return sessionID, j.tidy()
}

// append writes the pending lines and text at the end. It cuts off the remains of a
// failed write, so that the next line does not follow half of one.
func (j *fileJournal) append(text []byte) error {
	if err := j.mend(); err != nil {
		return err
	}
	text = append(j.pending, text...)
	j.torn = true
	_, err := j.file.WriteAt(text, j.size)
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		return errors.Join(err, j.mend())
	}
	j.size, j.torn = j.size+int64(len(text)), false
	j.pending, j.late = nil, 0
	return nil
}

// mend restores the file to the state that the fields describe, after an earlier
// failure.
func (j *fileJournal) mend() error {
	if j.torn {
		if err := j.file.Truncate(j.size); err != nil {
			return err
		}
		j.torn = false
	}
	if j.moved {
		if err := j.disk().SyncDir(j.dir); err != nil {
			return err
		}
		j.moved = false
	}
	return nil
}

// Read implements [participant.Journal].
func (j *fileJournal) Read(_ context.Context, sessionID string) (participant.Record, bool, error) {
	j.journal.Lock()
	defer j.journal.Unlock()
	if err := j.load(); err != nil {
		return participant.Record{}, false, err
	}
	r, ok := j.ledger.Get(sessionID)
	return r, ok, nil
}

// Open implements [participant.Journal].
func (j *fileJournal) Open(context.Context) ([]participant.Record, error) {
	j.journal.Lock()
	defer j.journal.Unlock()
	if err := j.load(); err != nil {
		return nil, err
	}
	return j.ledger.Open(), nil
}

func (j *fileJournal) path() string { return filepath.Join(j.dir, "journal.log") }

// temp is the path of the rewritten file. It is always the same, so that crashes do
// not leave several.
func (j *fileJournal) temp() string { return filepath.Join(j.dir, secret.TempPrefix+"journal.log") }

// load locks the directory and reads the file, once.
func (j *fileJournal) load() error {
	if j.file != nil {
		return nil
	}
	lock, err := secret.LockFile(filepath.Join(j.dir, "lock"))
	if err != nil {
		return err
	}
	if err := j.read(); err != nil {
		j.file = nil
		return errors.Join(err, lock.Close())
	}
	j.lock = lock
	return nil
}

// read reads the file, line by line: an earlier version may have let it grow far
// larger than its live content.
func (j *fileJournal) read() error {
	file, err := j.disk().Open(j.path(), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return fmt.Errorf("open journal: %w", err)
	}
	j.ledger, j.bytes, j.size = participant.NewLedger(), map[participant.SessionSum]int64{}, 0
	in := bufio.NewReaderSize(io.NewSectionReader(file, 0, math.MaxInt64), 64<<10)
	for number := 1; ; number++ {
		text, err := readLine(in)
		if err == io.EOF {
			break
		}
		if err == nil {
			err = j.replay(text)
		}
		if err != nil {
			// Continuing could run an attempt twice.
			return errors.Join(fmt.Errorf("read journal: line %d of %s: %w", number, j.path(), err), file.Close())
		}
		j.size += int64(len(text))
	}
	err = errors.Join(file.Truncate(j.size), j.disk().Remove(j.temp()), j.disk().SyncDir(j.dir))
	if err != nil {
		return errors.Join(fmt.Errorf("open journal: %w", err), file.Close())
	}
	j.file, j.retry, j.torn, j.moved, j.pending, j.late = file, 0, false, false, nil, 0
	if err := j.tidy(); err != nil {
		return errors.Join(err, j.file.Close())
	}
	return nil
}

// readLine reads a line, and its end. For an incomplete line at the end of the file
// it returns io.EOF.
func readLine(in *bufio.Reader) ([]byte, error) {
	var long []byte
	for {
		text, err := in.ReadSlice('\n')
		switch {
		case err == nil && long == nil:
			return text, nil
		case len(long)+len(text) > maxLine:
			return nil, errors.New("it is too long")
		case err == nil:
			return append(long, text...), nil
		case err != bufio.ErrBufferFull:
			return nil, err
		}
		long = append(long, text...)
	}
}

// errDamaged describes the fault of a line.
var errDamaged = errors.New("it is damaged")

// replay applies a line of the file.
func (j *fileJournal) replay(text []byte) error {
	var l line
	if err := json.Unmarshal(text, &l); err != nil || (l.SessionID == "") == (l.Sum == "") {
		return errDamaged
	}
	if l.Request != "" {
		j.ledger.AddClaim(l.Request, participant.Claim{SessionID: l.SessionID, Until: l.Until})
		return nil
	}
	if l.Sum != "" {
		raw, err := base64.RawURLEncoding.DecodeString(l.Sum)
		if err != nil || len(raw) != len(participant.SessionSum{}) {
			return errDamaged
		}
		sum := participant.SessionSum(raw)
		j.ledger.Restore(sum, participant.Record{Answer: l.Answer, Attempt: l.Attempt})
		delete(j.bytes, sum)
		return nil
	}
	r, _ := j.ledger.Get(l.SessionID)
	if l.Invitation != nil {
		r.Invitation, r.At = *l.Invitation, l.At
	}
	r.Invitation.SessionID = l.SessionID
	r.Answer, r.Attempt, r.Generated, r.Ended, r.Rank = l.Answer, l.Attempt, l.Generated, l.Ended, l.Rank
	j.set(r, int64(len(text)))
	return nil
}

// inForce is the size of a rewritten file, in bytes.
func (j *fileJournal) inForce() int64 {
	ended, claims := j.ledger.Len()
	n := int64(ended)*endedLine + int64(claims)*claimLine
	for _, size := range j.bytes {
		n += size
	}
	return n
}

// tidy rewrites the file if most of it is out of date. If that fails the written
// lines stay; the failure is returned when the file is twice as large as allowed.
func (j *fileJournal) tidy() error {
	most := journalFactor*j.inForce() + journalSlack
	if j.size <= most || j.size < j.retry {
		return nil
	}
	err := j.rewrite()
	if err == nil {
		j.retry = 0
		return nil
	}
	j.retry = j.size + journalSlack
	if j.size <= 2*most {
		return nil
	}
	return fmt.Errorf("rewrite journal: %w", err)
}

// rewrite replaces the file by one with only the live content.
func (j *fileJournal) rewrite() error {
	file, err := j.disk().Open(j.temp(), os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	size, err := j.writeAll(io.NewOffsetWriter(file, 0))
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = j.disk().Rename(j.temp(), j.path())
	}
	if err != nil {
		return errors.Join(err, file.Close(), j.disk().Remove(j.temp()))
	}
	// From here on this is the file, and the other one has no name: further writes
	// must go to this one, and its name must be on disk before them.
	old := j.file
	j.file, j.size, j.torn, j.moved = file, size, false, true
	j.pending, j.late = nil, 0 // the ledger has them
	return errors.Join(j.mend(), old.Close())
}

// writeAll writes the live content: ended sessions in the order of their removal.
func (j *fileJournal) writeAll(to io.Writer) (size int64, err error) {
	out := bufio.NewWriterSize(to, 64<<10)
	put := func(text []byte, encoding error) {
		if err == nil {
			err = encoding
		}
		if err == nil {
			_, err = out.Write(text)
			size += int64(len(text))
		}
	}
	j.ledger.Expire(time.Now())
	for id, c := range j.ledger.Claims() {
		put(encodeClaim(id, c))
	}
	for sum, r := range j.ledger.Ended() {
		put(encodeEnded(sum, r))
	}
	for _, r := range j.ledger.Open() {
		put(encodeLine(r, true))
	}
	return size, errors.Join(err, out.Flush())
}

// close releases file and lock; a later use opens them again.
func (j *fileJournal) close() error {
	j.journal.Lock()
	defer j.journal.Unlock()
	if j.file == nil {
		return nil
	}
	var err error
	if j.late > 0 {
		err = j.append(nil)
	}
	err = errors.Join(err, j.file.Close(), j.lock.Close())
	j.file, j.lock = nil, nil
	return err
}

// disk is the part of an operating system's files that a journal uses.
type disk interface {
	// Open opens a file, with access for its owner alone if it creates it.
	Open(path string, flag int) (diskFile, error)
	Rename(from, to string) error
	// Remove removes a file, if it exists.
	Remove(path string) error
	// SyncDir makes the names in a directory durable.
	SyncDir(dir string) error
}

type diskFile interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
	Sync() error
	Close() error
}

func (j *fileJournal) disk() disk {
	if j.testingOnlyDisk != nil {
		return j.testingOnlyDisk
	}
	return osDisk{}
}

type osDisk struct{}

func (osDisk) Open(path string, flag int) (diskFile, error) { return os.OpenFile(path, flag, 0o600) }
func (osDisk) Rename(from, to string) error                 { return os.Rename(from, to) }
func (osDisk) SyncDir(dir string) error                     { return secret.SyncDir(dir) }
func (osDisk) Remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
