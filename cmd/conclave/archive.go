package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"filippo.io/age"

	"github.com/conclave-mpc/conclave/wsconn/client/dirstore"
	"github.com/conclave-mpc/conclave/wsconn/secret"
)

// archive is the files of a backup: their contents by their names in the home
// directory, with slashes.
type archive map[string][]byte

// maxArchive is far more than a home directory may hold.
const maxArchive = 512 << 20

// scryptWork is log2 of scrypt's passes over the passphrase, about a second; tests
// set less.
var scryptWork = 18

const maxScryptWork = 22

var (
	archiveNames = []string{
		identityFile, "journal.log", "known_identities", knownFile, ratesFile, policyFile, profileFile, authoritiesFile,
	}
	archiveDirNames = regexp.MustCompile(`^(shares|epochs|evidence)/[^./\\][^/\\]*\.json$`)
)

// names returns the files' names in the order in which they are restored: the
// identity last, because the others are of use only with it.
func (a archive) names() []string {
	return slices.SortedFunc(maps.Keys(a), func(x, y string) int {
		if (x == identityFile) != (y == identityFile) {
			if x == identityFile {
				return 1
			}
			return -1
		}
		return strings.Compare(x, y)
	})
}

// clear overwrites the secret files.
func (a archive) clear() { clear(a[identityFile]) }

// addDir adds the files of a directory below the home directory, if it exists.
func (a archive) addDir(home, name string) error {
	entries, err := os.ReadDir(filepath.Join(home, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		inside := name + "/" + e.Name()
		if !archiveDirNames.MatchString(inside) {
			continue // a file that is being written
		}
		text, err := os.ReadFile(filepath.Join(home, name, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // a share of an earlier epoch, deleted meanwhile
		}
		if err != nil {
			return err
		}
		a[inside] = text
	}
	return nil
}

// seal returns the files as a tar archive encrypted with a passphrase.
func (a archive) seal(passphrase []byte) ([]byte, error) {
	to, err := age.NewScryptRecipient(string(passphrase))
	if err != nil {
		return nil, err
	}
	to.SetWorkFactor(scryptWork)
	var out bytes.Buffer
	sealed, err := age.Encrypt(&out, to)
	if err != nil {
		return nil, err
	}
	t := tar.NewWriter(sealed)
	for _, name := range a.names() {
		err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: int64(len(a[name]))})
		if err == nil {
			_, err = t.Write(a[name])
		}
		if err != nil {
			return nil, err
		}
	}
	if err := errors.Join(t.Close(), sealed.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// openArchive is the opposite of seal. It accepts only names that seal writes.
func openArchive(text, passphrase []byte) (archive, error) {
	key, err := age.NewScryptIdentity(string(passphrase))
	if err != nil {
		return nil, err
	}
	key.SetMaxWorkFactor(maxScryptWork)
	plain, err := age.Decrypt(bytes.NewReader(text), key)
	var wrong *age.NoIdentityMatchError
	if errors.As(err, &wrong) {
		return nil, errors.New("wrong passphrase for the backup")
	}
	if err != nil {
		return nil, fmt.Errorf("not a backup, or damaged: %w", err)
	}
	a := archive{}
	left := int64(maxArchive)
	for t := tar.NewReader(plain); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return a, nil
		}
		if err == nil && (h.Typeflag != tar.TypeReg || !slices.Contains(archiveNames, h.Name) && !archiveDirNames.MatchString(h.Name)) {
			err = fmt.Errorf("unexpected entry %q", h.Name)
		}
		if err == nil && (h.Size > left || a[h.Name] != nil) {
			err = fmt.Errorf("entry %q is duplicate or too large", h.Name)
		}
		if err != nil {
			return nil, fmt.Errorf("the backup is damaged: %w", err)
		}
		left -= h.Size
		if a[h.Name], err = io.ReadAll(t); err != nil {
			return nil, fmt.Errorf("the backup is damaged: %w", err)
		}
	}
}

// setLogin puts the path of the authorities into the restored login. It leaves the
// login out if this home already has one.
func (a archive) setLogin(home string) error {
	if _, err := os.Stat(filepath.Join(home, profileFile)); err == nil {
		delete(a, profileFile)
	}
	var p profile
	if a[profileFile] == nil {
		return nil
	}
	if err := json.Unmarshal(a[profileFile], &p); err != nil {
		return fmt.Errorf("%s is damaged", profileFile)
	}
	if p.CA != "" {
		file, err := filepath.Abs(filepath.Join(home, authoritiesFile))
		if err != nil {
			return err
		}
		p.CA = file
	}
	text, err := json.MarshalIndent(p, "", "  ")
	a[profileFile] = append(text, '\n')
	return err
}

// write puts the files into a home directory. An existing file with other content is
// an error, before anything is changed; one with the same content stays.
func (a archive) write(home string) error {
	names := a.names()
	var missing []string
	for _, name := range names {
		there, err := os.ReadFile(filepath.Join(home, filepath.FromSlash(name)))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missing = append(missing, name)
		case err != nil:
			return err
		case !bytes.Equal(there, a[name]):
			return fmt.Errorf("%s exists already with other content; use an empty directory (--home)", name)
		}
	}
	store, err := dirstore.Open(home) // creates the directories, or checks that they are private
	if err != nil {
		return err
	}
	if err := store.Close(); err != nil {
		return err
	}
	for _, name := range missing {
		path := filepath.Join(home, filepath.FromSlash(name))
		if err := secret.MakeDir(filepath.Dir(path)); err != nil {
			return err
		}
		if err := secret.CreateFile(path, a[name]); err != nil {
			return err
		}
	}
	return nil
}
