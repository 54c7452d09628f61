// Package dirstore keeps the local data of a participant or a coordinator in a
// directory of private files: shares, journal, known identities, evidence, the
// identity, pre-parameters, and a policy's record of approvals.
//
// Start here: [Open] opens the store, which is the Shares of a participant.Config and
// a trust.Store; [LoadIdentity] reads the identity or makes it.
//
// Shares and pre-parameters are sealed to the identity before they are stored here.
// The package encrypts only the identity, with a passphrase. Files have mode 0600
// and are replaced whole. The mutexes are held while files are read or written.
package dirstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
	"github.com/conclave-mpc/conclave/wsconn/secret"
)

// Store is a participant.EpochStore, Journal and EvidenceStore and a trust.Store in a
// directory of mode 0700:
//
//	shares/KEY~ADDRESS.json   sealed shares of epoch 1, one a file
//	shares/KEY~ADDRESS~EPOCH.json
//	                          those of other epochs
//	epochs/KEY~ADDRESS~NUMBER~HASH.json
//	                          certificates of epochs, with the beginning of their hash,
//	                          and those of entries, whose names end in ~entry
//	epochs/KEY~ADDRESS.json   the numbers of the key that were used
//	journal.log               the Journal, a JSON object a line, newest last
//	evidence/SESSION~ATTEMPT~PART.json
//	                          what convicts a party; see conclave verify --evidence
//	known_identities          who is trusted: user, and the identity of its first use or the
//	                          fingerprint that was pinned, a line each
//
// Files have mode 0600 and are replaced whole, so that a crash leaves the old one
// or the new. Names are percent-encoded. Writing the journal locks the directory
// for this process; other processes can still read the rest, and change
// known_identities.
type Store struct {
	dir string
	fileJournal

	mu sync.Mutex // held while a file is changed, except those of the journal

	knownCache knownCache

	// testingOnlyListed is called when the certificates of a key have been listed and its
	// share is to be read. Nil outside tests.
	testingOnlyListed func()
}

// Open opens the store in dir, creating it if necessary.
func Open(dir string) (*Store, error) {
	for _, dir := range []string{dir, filepath.Join(dir, "shares"), filepath.Join(dir, "epochs")} {
		if err := secret.MakeDir(dir); err != nil {
			return nil, fmt.Errorf("open share store: %w", err)
		}
	}
	return &Store{dir: dir, fileJournal: fileJournal{dir: dir}}, nil
}

// Close releases the directory.
func (s *Store) Close() error { return s.fileJournal.close() }

// shareFile is the file of the share of an epoch.
func (s *Store) shareFile(keyID, address string, epoch int) string {
	name := keyName(keyID, address)
	if epoch > 1 {
		name += "~" + strconv.Itoa(epoch)
	}
	return filepath.Join(s.dir, "shares", name+".json")
}

// keyName begins the names of all files of a key with that address.
func keyName(keyID, address string) string { return fileName(keyID) + "~" + fileName(address) }

// Put implements [participant.ShareStore] and [participant.EpochStore].
func (s *Store) Put(_ context.Context, shareJSON string) error {
	public, err := share.ParsePublic(shareJSON)
	if err != nil {
		return fmt.Errorf("store share: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	path := s.shareFile(public.KeyID, public.AccountAddr, public.Epoch)
	if public.Epoch > 1 {
		if held, err := os.ReadFile(path); err == nil && string(held) != shareJSON {
			return fmt.Errorf("store share of key %s: %w", public.KeyID, participant.ErrEpochTaken)
		}
	}
	if err := secret.WriteFile(path, []byte(shareJSON)); err != nil {
		return fmt.Errorf("store share of key %s: %w", public.KeyID, err)
	}
	return nil
}

// Get implements [participant.ShareStore].
func (s *Store) Get(ctx context.Context, keyID, accountAddr string) (string, error) {
	if accountAddr != "" {
		text, _, err := s.current(keyID, accountAddr)
		return text, err
	}
	list, err := s.List(ctx)
	if err != nil {
		return "", err
	}
	for _, public := range list { // newest first
		if public.KeyID == keyID {
			return s.Get(ctx, keyID, public.AccountAddr)
		}
	}
	return "", participant.ErrNoShare
}

// List implements [participant.ShareStore].
func (s *Store) List(context.Context) ([]share.Public, error) {
	type key struct{ id, address string }
	keys := map[key]bool{}
	if err := s.each(func(_ string, public share.Public) { keys[key{public.KeyID, public.AccountAddr}] = true }); err != nil {
		return nil, err
	}
	var list []share.Public
	for k := range keys {
		_, public, err := s.current(k.id, k.address)
		if errors.Is(err, participant.ErrNoShare) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list shares: %w", err)
		}
		list = append(list, public)
	}
	slices.SortFunc(list, func(a, b share.Public) int { return strings.Compare(a.AccountAddr, b.AccountAddr) })
	participant.SortShares(list)
	return list, nil
}

func (s *Store) each(do func(text string, public share.Public)) error {
	dir := filepath.Join(s.dir, "shares")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list shares: %w", err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".json") || strings.HasPrefix(e.Name(), secret.TempPrefix) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted meanwhile
		}
		if err != nil {
			return fmt.Errorf("list shares: %w", err)
		}
		public, err := share.ParsePublic(string(text))
		if err != nil {
			return fmt.Errorf("list shares: %s: %w", e.Name(), err)
		}
		do(string(text), public)
	}
	return nil
}

// readBounded is os.ReadFile for a file of at most that many bytes.
func readBounded(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("%s has more than %d bytes", path, most)
	}
	return text, err
}

// fileName makes a file name from any id: letters, digits and _ @ - are kept, so is
// a dot that is not the first character, and all else is percent-encoded. A result
// too long for a file name is cut and made unique by its hash.
func fileName(id string) string {
	const longest = 100 // two of them and their separator stay below 255
	var b strings.Builder
	for i := range len(id) {
		ch := id[i]
		switch {
		case ch >= 'a' && ch <= 'z', ch >= 'A' && ch <= 'Z', ch >= '0' && ch <= '9', ch == '_', ch == '@', ch == '-', ch == '.' && i > 0:
			b.WriteByte(ch)
		default:
			fmt.Fprintf(&b, "%%%02X", ch)
		}
	}
	if b.Len() <= longest {
		return b.String()
	}
	sum := sha256.Sum256([]byte(id))
	return b.String()[:longest-36] + "%~" + hex.EncodeToString(sum[:16])
}
