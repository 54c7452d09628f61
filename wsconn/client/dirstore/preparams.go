package dirstore

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/preparams"
	"github.com/conclave-mpc/conclave/wsconn/secret"
)

// PreParams keeps pre-parameters in a directory of mode 0700, a file of mode 0600
// for each set, sealed to its owner's identity. Each set is returned at most once:
// its file is renamed, and the directory is on disk, before the set is returned. A
// crash after that loses the set, which costs a second of work; it never lets a set
// serve two keys.
//
//	NAME.pre   a set that waits
//	NAME.used  one that was taken; removed as soon as it has been read, or at the next start
//
// Several processes may use one directory. It is safe for concurrent use.
type PreParams struct {
	dir      string
	identity *identity.Identity
}

const (
	waitingSuffix = ".pre"
	usedSuffix    = ".used"
)

// OpenPreParams opens dir, creating it if necessary, and removes sets that a dead
// process has taken and not used.
func OpenPreParams(dir string, identity *identity.Identity) (*PreParams, error) {
	if identity == nil {
		return nil, errors.New("open pre-parameters: the identity is missing")
	}
	if err := secret.MakeDir(dir); err != nil {
		return nil, fmt.Errorf("open pre-parameters: %w", err)
	}
	d := &PreParams{dir, identity}
	left, err := d.names(usedSuffix)
	if err != nil {
		return nil, err
	}
	for _, name := range left {
		if err := os.Remove(d.path(name, usedSuffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("open pre-parameters: %w", err)
		}
	}
	return d, nil
}

func (d *PreParams) path(name, suffix string) string { return filepath.Join(d.dir, name+suffix) }

// names lists the sets that have that suffix.
func (d *PreParams) names(suffix string) ([]string, error) {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return nil, fmt.Errorf("list pre-parameters: %w", err)
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), suffix); ok && !strings.HasPrefix(name, secret.TempPrefix) {
			names = append(names, name)
		}
	}
	return names, nil
}

// Put keeps a set, which its caller must then forget.
func (d *PreParams) Put(p *preparams.Set) error {
	sealed, err := p.Seal(d.identity.Recipient())
	if err != nil {
		return err
	}
	if err := secret.WriteFile(d.path(rand.Text(), waitingSuffix), sealed); err != nil {
		return fmt.Errorf("keep pre-parameters: %w", err)
	}
	return nil
}

// Len returns the number of sets available.
func (d *PreParams) Len() (int, error) {
	names, err := d.names(waitingSuffix)
	return len(names), err
}

// Take removes and returns a set, nil if none is left. An unreadable one (damaged,
// or another identity's) is skipped and stays in place.
func (d *PreParams) Take() (*preparams.Set, error) {
	names, err := d.names(waitingSuffix)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		p, err := d.open(name)
		if err != nil {
			continue
		}
		used := d.path(name, usedSuffix)
		if err := os.Rename(d.path(name, waitingSuffix), used); errors.Is(err, fs.ErrNotExist) {
			continue // another process was faster
		} else if err != nil {
			return nil, fmt.Errorf("take pre-parameters: %w", err)
		}
		if err := secret.SyncDir(d.dir); err != nil {
			return nil, fmt.Errorf("take pre-parameters: %w", err)
		}
		// It cannot be returned again; its removal is only cleanup.
		_ = os.Remove(used)
		return p, nil
	}
	return nil, nil
}

func (d *PreParams) open(name string) (*preparams.Set, error) {
	sealed, err := os.ReadFile(d.path(name, waitingSuffix))
	if err != nil {
		return nil, err
	}
	return preparams.Open(sealed, d.identity)
}
