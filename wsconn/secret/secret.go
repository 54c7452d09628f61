// Package secret protects secrets on the machine where Conclave's programs run:
// files that only their owner may read, written whole and durably, and a process
// whose memory is not written to disk.
//
// It does not encrypt: see session/party for sealed shares and protected
// identities. It cannot wipe everything that a Go program held: the garbage
// collector may have moved a value, strings cannot be overwritten, and libraries
// keep copies. The programs clear only the buffers they own; swap should be
// encrypted, or off.
package secret

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// ErrLocked is returned by [LockFile] when another process holds the lock.
var ErrLocked = errors.New("client: another process uses the store")

// Private refuses files and directories that others can read: it returns an error
// that says what to do. A file of another owner may be open to the group, since
// this process then reads it as a group member, as with secrets mounted into a
// container. Pipes are private to their holders. On Windows, where permissions are
// not in the mode, nothing is refused.
func Private(paths ...string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if err := private(path, info); err != nil {
			return err
		}
	}
	return nil
}

func private(path string, info fs.FileInfo) error {
	open := fs.FileMode(0o077)
	switch {
	case runtime.GOOS == "windows", !info.Mode().IsRegular() && !info.IsDir():
		return nil
	case info.Mode().IsRegular() && !ours(info):
		open = 0o037
	}
	if mode := info.Mode().Perm(); mode&open != 0 {
		return fmt.Errorf("%s is open to other users (mode %04o); close it with chmod go= %s", path, mode, path)
	}
	return nil
}

// maxFile is far more than any secret of Conclave needs.
const maxFile = 16 << 20

// ReadFile reads a file that must be private as defined by [Private]. For a file
// that does not exist the error is fs.ErrNotExist.
func ReadFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := private(path, info); err != nil {
		return nil, err
	}
	return readAll(f)
}

// readAll is io.ReadAll with a limit, and without leaving copies of the content in
// outgrown buffers.
func readAll(r io.Reader) ([]byte, error) {
	buf := make([]byte, 0, 4096)
	for {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if errors.Is(err, io.EOF) {
			return buf, nil
		}
		if err == nil && len(buf) > maxFile {
			err = fmt.Errorf("larger than %d bytes", maxFile)
		}
		if err != nil {
			clear(buf)
			return nil, err
		}
		if len(buf) == cap(buf) {
			grown := make([]byte, len(buf), 4*cap(buf))
			copy(grown, buf)
			clear(buf)
			buf = grown
		}
	}
}

// MakeDir makes a directory for its owner alone, and its parents. An existing one
// must be private.
func MakeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return Private(dir) // the directory may have been made with other permissions
}

// TempPrefix begins the names of files that are being written.
const TempPrefix = ".new-"

// WriteFile replaces a file whole and durably: after a crash it is the old one or
// the new. Only its owner may read it.
func WriteFile(path string, content []byte) error {
	temp, err := writeTemp(path, content)
	if err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return SyncDir(filepath.Dir(path))
}

// CreateFile is WriteFile for a file that must not exist yet, else the error is
// fs.ErrExist and nothing is changed. On file systems without links, such as those
// of memory sticks, a crash can leave half of it.
func CreateFile(path string, content []byte) error {
	temp, err := writeTemp(path, content)
	if err != nil {
		return err
	}
	// Unlike a rename, a link does not replace a file that another process made
	// meanwhile.
	linked := testingOnlyLink(temp, path)
	if err := os.Remove(temp); err != nil {
		return err
	}
	switch {
	case errors.Is(linked, fs.ErrExist):
		return linked
	case linked != nil:
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		if err := fill(f, content); err != nil {
			return errors.Join(err, os.Remove(path))
		}
	}
	return SyncDir(filepath.Dir(path))
}

var testingOnlyLink = os.Link

// writeTemp writes a new file beside path, readable for its owner alone.
func writeTemp(path string, content []byte) (temp string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), TempPrefix+"*") // mode 0600
	if err != nil {
		return "", err
	}
	if err := fill(f, content); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// fill writes a file durably and closes it.
func fill(f *os.File, content []byte) error {
	_, err := f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// SyncDir makes the names in a directory durable.
func SyncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // it cannot, and need not
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
