package dirstore

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
	"github.com/conclave-mpc/conclave/wsconn/secret"
)

// known_identities is a text file: a user and, after a space, the whole identity
// trusted on first use, or the fingerprint pinned by hand. Lines with # are
// comments, which the next change drops. Changes are made under their own lock,
// since people pin identities while a participant runs.

const knownHeader = "# Who is trusted: user and, after its first use, identity; or user and pinned fingerprint. See conclave trust.\n"

func (s *Store) knownFile() string { return filepath.Join(s.dir, "known_identities") }

// Known implements [trust.Store].
func (s *Store) Known(user string) (trust.Known, bool, error) {
	list, err := s.knownCache.list(s.knownFile())
	if err != nil {
		return trust.Known{}, false, err
	}
	i, ok := findKnown(list, user)
	if !ok {
		return trust.Known{}, false, nil
	}
	return list[i], true, nil
}

// ListKnown returns all known identities, by user.
func (s *Store) ListKnown() ([]trust.Known, error) {
	list, _, err := readKnown(s.knownFile())
	return list, err
}

func findKnown(list []trust.Known, user string) (int, bool) {
	return slices.BinarySearchFunc(list, user, func(k trust.Known, user string) int { return strings.Compare(k.User, user) })
}

const (
	maxKnown      = 10_000  // users, beyond which trust on first use is refused
	maxKnownBytes = 8 << 20 // of the file
)

// errKnownFull is returned by Trust.
var errKnownFull = fmt.Errorf("%d identities are known, the maximum: no other is trusted on first use", maxKnown)

// knownCache keeps the file's content until it changes: a participant reads it for
// every request. The zero value is ready.
type knownCache struct {
	mu   sync.Mutex
	info fs.FileInfo // of the file that was read; nil before
	kept []trust.Known
}

// settledFile is the minimum age of a file's last change for its time to show that
// there was none since.
const settledFile = 2 * time.Second

func (c *knownCache) list(path string) ([]trust.Known, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	info, err := os.Stat(path)
	if err == nil && c.info != nil && os.SameFile(info, c.info) && info.Size() == c.info.Size() && info.ModTime().Equal(c.info.ModTime()) {
		return c.kept, nil
	}
	c.info = nil
	read := time.Now()
	list, _, failed := readKnown(path)
	if failed == nil && err == nil && read.Sub(info.ModTime()) > settledFile {
		c.info, c.kept = info, list
	}
	return list, failed
}

// readKnown returns the file's entries, by user, and its lines.
func readKnown(path string) ([]trust.Known, map[string]string, error) {
	text, err := readBounded(path, maxKnownBytes)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("read known identities: %w", err)
	}
	return parseAllKnown(text)
}

// ParseKnown returns the entries in the text of a [Store]'s known_identities file,
// by user. An empty text has none.
func ParseKnown(text []byte) ([]trust.Known, error) {
	list, _, err := parseAllKnown(text)
	return list, err
}

func parseAllKnown(text []byte) ([]trust.Known, map[string]string, error) {
	var list []trust.Known
	lines := map[string]string{}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		user := fields[0]
		k, err := parseKnown(user, fields[1:])
		if err == nil && lines[user] != "" {
			err = errors.New("there are two")
		}
		if err != nil {
			return nil, nil, fmt.Errorf("known_identities: the line of %s: %w", user, err)
		}
		list, lines[user] = append(list, k), strings.Join(fields, " ")+"\n"
	}
	slices.SortFunc(list, func(a, b trust.Known) int { return cmp.Compare(a.User, b.User) })
	return list, lines, nil
}

func parseKnown(user string, fields []string) (trust.Known, error) {
	if len(fields) != 1 {
		return trust.Known{}, errors.New("it is damaged")
	}
	if fingerprint, err := identity.ParseFingerprint(fields[0]); err == nil {
		return trust.Known{User: user, Fingerprint: fingerprint, Pinned: true}, nil
	}
	id, err := identity.ParsePublic(fields[0])
	if err != nil {
		return trust.Known{}, err
	}
	return trust.Known{User: user, Fingerprint: id.Fingerprint()}, nil
}

// Trust implements [trust.Store]: it trusts on first use, and remembers.
func (s *Store) Trust(user string, id identity.Public) error {
	known, ok, err := s.Known(user)
	if err == nil && !ok {
		err = s.changeKnown(func(list []trust.Known, lines map[string]string) error {
			i, raced := findKnown(list, user)
			if raced {
				return list[i].Holds(id)
			}
			if len(list) >= maxKnown {
				return errKnownFull
			}
			lines[user] = user + " " + id.String() + "\n"
			return nil
		})
	}
	if err != nil || !ok {
		return err
	}
	return known.Holds(id)
}

// Pin records the fingerprint of a user's identity, as given by its owner. It
// returns an [*IdentityError] if another one is known.
func (s *Store) Pin(user, fingerprint string) error {
	return s.changeKnown(func(list []trust.Known, lines map[string]string) error {
		var known trust.Known
		if i, ok := findKnown(list, user); ok {
			known = list[i]
		}
		k, err := known.PinnedAs(user, fingerprint)
		if err == nil {
			lines[user] = user + " " + k.Fingerprint + "\n"
		}
		return err
	})
}

// Adopt implements [trust.Adopter].
func (s *Store) Adopt(user string, id identity.Public) error {
	return s.changeKnown(func(list []trust.Known, lines map[string]string) error {
		as := id.String()
		if i, ok := findKnown(list, user); ok && list[i].Pinned {
			as = id.Fingerprint()
		} else if !ok && len(list) >= maxKnown {
			return errKnownFull
		}
		lines[user] = user + " " + as + "\n"
		return nil
	})
}

// Forget removes the identity of a user, and reports whether one was known.
func (s *Store) Forget(user string) (known bool, err error) {
	err = s.changeKnown(func(_ []trust.Known, lines map[string]string) error {
		_, known = lines[user]
		delete(lines, user)
		return nil
	})
	return known, err
}

// knownLockWait bounds the wait for another process that changes the file.
const knownLockWait = 10 * time.Second

// changeKnown changes the lines of the file, excluding all other goroutines and
// processes.
func (s *Store) changeKnown(change func(list []trust.Known, lines map[string]string) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	lock, err := s.lockKnown()
	if err != nil {
		return err
	}
	defer lock.Close()
	list, lines, err := readKnown(s.knownFile())
	if err != nil {
		return err
	}
	if err := change(list, lines); err != nil {
		return err
	}
	var text strings.Builder
	text.WriteString(knownHeader)
	for _, user := range slices.Sorted(maps.Keys(lines)) {
		text.WriteString(lines[user])
	}
	if err := secret.WriteFile(s.knownFile(), []byte(text.String())); err != nil {
		return fmt.Errorf("write known identities: %w", err)
	}
	return nil
}

func (s *Store) lockKnown() (*os.File, error) {
	for deadline := time.Now().Add(knownLockWait); ; time.Sleep(5 * time.Millisecond) {
		lock, err := secret.LockFile(s.knownFile() + ".lock")
		if !errors.Is(err, secret.ErrLocked) || time.Now().After(deadline) {
			return lock, err
		}
	}
}
