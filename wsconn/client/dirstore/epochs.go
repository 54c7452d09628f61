package dirstore

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
	"github.com/conclave-mpc/conclave/wsconn/secret"
)

const (
	maxCertificateFile = 2 << 20
	maxNumbersFile     = 16 << 20
	hashDigits         = 16 // of a certificate's hash, in the name of its file
)

// certificateFile names a certificate's file. The name is enough to know which epoch
// is the current one.
type certificateFile struct {
	name   string
	number int
	hash   string // its first digits
	entry  bool   // not of an epoch
}

const entrySuffix = "~entry" // of names of certificates that are not of an epoch

// current returns the share of the current epoch. Without one the error is a
// participant.ErrNoShare.
func (s *Store) current(keyID, accountAddr string) (string, share.Public, error) {
	files, err := s.certificateFiles(keyID, accountAddr)
	for err == nil {
		if s.testingOnlyListed != nil {
			s.testingOnlyListed()
		}
		text, public, notHeld := s.currentBy(files, keyID, accountAddr)
		if !errors.Is(notHeld, participant.ErrNoShare) {
			return text, public, notHeld
		}
		// A share may have been deleted because another epoch has been certified.
		before := files
		if files, err = s.certificateFiles(keyID, accountAddr); slices.Equal(before, files) {
			return "", share.Public{}, notHeld
		}
	}
	return "", share.Public{}, err
}

// currentBy returns the share of the epoch that is the current one by those
// certificates.
func (s *Store) currentBy(files []certificateFile, keyID, accountAddr string) (string, share.Public, error) {
	epoch := 1
	if len(files) > 0 {
		epoch = files[0].number
	}
	text, err := s.GetEpoch(context.Background(), keyID, accountAddr, epoch)
	if errors.Is(err, participant.ErrNoShare) && epoch > 1 {
		err = fmt.Errorf("%w in epoch %d, the current one", participant.ErrNoShare, epoch)
	}
	if err != nil {
		return "", share.Public{}, err
	}
	public, err := share.ParsePublic(text)
	if err != nil || epoch == 1 {
		return text, public, err
	}
	// Two epochs with one number have different committees.
	c, err := s.certificate(files[0])
	if err != nil {
		return "", share.Public{}, err
	}
	if !participant.IsShareOf(public, c.Epoch) {
		return "", share.Public{}, fmt.Errorf("%w in epoch %d: the one held belongs to another committee", participant.ErrNoShare, epoch)
	}
	return text, public, nil
}

// certificateFiles lists the certificates of a key: those of epochs first, and of these
// the current one's.
func (s *Store) certificateFiles(keyID, accountAddr string) ([]certificateFile, error) {
	var files []certificateFile
	err := s.named("epochs", keyName(keyID, accountAddr)+"~", func(name, rest string) {
		number, hash, ok := strings.Cut(rest, "~")
		n, err := strconv.Atoi(number)
		if ok && err == nil {
			hash, entry := strings.CutSuffix(hash, entrySuffix)
			files = append(files, certificateFile{name, n, hash, entry})
		}
	})
	slices.SortFunc(files, func(a, b certificateFile) int {
		if a.entry != b.entry {
			if b.entry {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(b.number, a.number), strings.Compare(a.hash, b.hash))
	})
	return files, err
}

// named calls do with the name of each file whose name begins with prefix, and what
// stands between that and .json.
func (s *Store) named(dir, prefix string, do func(name, rest string)) error {
	entries, err := os.ReadDir(filepath.Join(s.dir, dir))
	if err != nil {
		return fmt.Errorf("list %s: %w", dir, err)
	}
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), prefix)
		if rest, isJSON := strings.CutSuffix(rest, ".json"); ok && isJSON {
			do(e.Name(), rest)
		}
	}
	return nil
}

func (s *Store) certificate(f certificateFile) (*statement.Certificate, error) {
	text, err := readBounded(filepath.Join(s.dir, "epochs", f.name), maxCertificateFile)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	c, err := statement.ParseAnyCertificate(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.name, err)
	}
	return c, nil
}

func (s *Store) certificates(keyID, accountAddr string) ([]*statement.Certificate, error) {
	files, err := s.certificateFiles(keyID, accountAddr)
	if err != nil {
		return nil, err
	}
	var list []*statement.Certificate
	for _, f := range files {
		c, err := s.certificate(f)
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, nil
}

// epochs lists the epochs of a key of which there are shares, ascending.
func (s *Store) epochs(keyID, accountAddr string) ([]int, error) {
	var list []int
	if _, err := os.Stat(s.shareFile(keyID, accountAddr, 1)); err == nil {
		list = append(list, 1)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list shares: %w", err)
	}
	err := s.named("shares", keyName(keyID, accountAddr)+"~", func(_, rest string) {
		if n, err := strconv.Atoi(rest); err == nil && n > 1 {
			list = append(list, n)
		}
	})
	slices.Sort(list)
	return list, err
}

// Epochs implements [participant.EpochStore].
func (s *Store) Epochs(ctx context.Context, keyID, accountAddr string) ([]share.Public, error) {
	epochs, err := s.epochs(keyID, accountAddr)
	if err != nil {
		return nil, err
	}
	var list []share.Public
	for _, epoch := range epochs {
		text, err := s.GetEpoch(ctx, keyID, accountAddr, epoch)
		if errors.Is(err, participant.ErrNoShare) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, err
		}
		public, err := share.ParsePublic(text)
		if err != nil {
			return nil, fmt.Errorf("share of epoch %d of key %s: %w", epoch, keyID, err)
		}
		list = append(list, public)
	}
	return list, nil
}

// GetEpoch implements [participant.EpochStore].
func (s *Store) GetEpoch(_ context.Context, keyID, accountAddr string, epoch int) (string, error) {
	text, err := os.ReadFile(s.shareFile(keyID, accountAddr, epoch))
	if errors.Is(err, fs.ErrNotExist) {
		return "", participant.ErrNoShare
	}
	if err != nil {
		return "", fmt.Errorf("read share of key %s: %w", keyID, err)
	}
	return string(text), nil
}

// DeleteEpoch implements [participant.EpochStore].
func (s *Store) DeleteEpoch(ctx context.Context, keyID, accountAddr string, epoch int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	files, err := s.certificateFiles(keyID, accountAddr)
	if err != nil {
		return err
	}
	current := len(files) == 0 && epoch == 1 || len(files) > 0 && epoch == files[0].number
	if current && slices.ContainsFunc(files, func(f certificateFile) bool { return f.entry }) {
		l, err := s.Lineage(ctx, keyID, accountAddr)
		if err != nil {
			return err
		}
		current = !l.Destroyed()
	}
	if current {
		return fmt.Errorf("delete share of key %s: %w", keyID, participant.ErrCurrentEpoch)
	}
	if err := s.removeShare(keyID, accountAddr, epoch); err != nil {
		return fmt.Errorf("delete share of epoch %d of key %s: %w", epoch, keyID, err)
	}
	return nil
}

// removeShare removes the file of a share, and copies of it that a crash has left
// before they got its name.
func (s *Store) removeShare(keyID, accountAddr string, epoch int) error {
	path := s.shareFile(keyID, accountAddr, epoch)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dir := filepath.Dir(path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), secret.TempPrefix) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			continue // it has got its name meanwhile
		}
		if p, err := share.ParsePublic(string(text)); err == nil && p.KeyID == keyID && p.AccountAddr == accountAddr && p.Epoch == epoch {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return secret.SyncDir(dir)
}

// PutCertificate implements [participant.EpochStore].
func (s *Store) PutCertificate(ctx context.Context, c *statement.Certificate) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	keyID, accountAddr := c.Key()
	held, err := s.certificates(keyID, accountAddr)
	if err != nil {
		return err
	}
	shares, err := s.Epochs(ctx, keyID, accountAddr)
	if err != nil {
		return err
	}
	add, err := participant.AddCertificate(held, shares, c)
	if err != nil || !add {
		return err
	}
	name := fmt.Sprintf("%s~%d~%s", keyName(keyID, accountAddr), c.Number(), c.Hash().String()[2:2+hashDigits])
	if c.Epoch == nil {
		name += entrySuffix
	}
	if err := secret.WriteFile(filepath.Join(s.dir, "epochs", name+".json"), []byte(c.String())); err != nil {
		return fmt.Errorf("store certificate %d of key %s: %w", c.Number(), keyID, err)
	}
	return nil
}

// Lineage implements [participant.EpochStore].
func (s *Store) Lineage(_ context.Context, keyID, accountAddr string) (*statement.Lineage, error) {
	list, err := s.certificates(keyID, accountAddr)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return statement.Head(list)
}

// Numbers implements [participant.EpochStore].
func (s *Store) Numbers(_ context.Context, keyID, accountAddr string, change func(*participant.Numbers) error) (participant.Numbers, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.numbers(keyID, accountAddr)
	if err != nil {
		return participant.Numbers{}, fmt.Errorf("numbers of key %s: %w", keyID, err)
	}
	if change == nil {
		return n, nil
	}
	if err := change(&n); err != nil {
		return participant.Numbers{}, err
	}
	text, err := json.Marshal(n)
	if err != nil {
		return participant.Numbers{}, fmt.Errorf("numbers of key %s: %w", keyID, err)
	}
	if err := secret.WriteFile(s.numbersFile(keyID, accountAddr), append(text, '\n')); err != nil {
		return participant.Numbers{}, fmt.Errorf("numbers of key %s: %w", keyID, err)
	}
	return n, nil
}

func (s *Store) numbersFile(keyID, accountAddr string) string {
	return filepath.Join(s.dir, "epochs", keyName(keyID, accountAddr)+".json")
}

func (s *Store) numbers(keyID, accountAddr string) (participant.Numbers, error) {
	var n participant.Numbers
	text, err := readBounded(s.numbersFile(keyID, accountAddr), maxNumbersFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return n, err
	default:
		if err := json.Unmarshal(text, &n); err != nil {
			return n, err
		}
	}
	epochs, err := s.epochs(keyID, accountAddr)
	if err != nil {
		return n, err
	}
	for _, epoch := range epochs {
		n.Highest = max(n.Highest, epoch)
	}
	files, err := s.certificateFiles(keyID, accountAddr)
	if err != nil {
		return n, err
	}
	for _, f := range files {
		n.Highest = max(n.Highest, f.number)
	}
	return n, nil
}

// CheckEpochFile returns an error unless text is the content of a file of the
// directory epochs. It does not verify a certificate's signatures.
func CheckEpochFile(text []byte) error {
	_, err := statement.ParseAnyCertificate(string(text))
	if err == nil {
		return nil
	}
	var n participant.Numbers
	if json.Unmarshal(text, &n) == nil && n.Highest > 0 {
		return nil
	}
	return err
}
