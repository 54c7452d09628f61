package dirstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/secret"
)

// A party can be convicted again in every run, at no cost, and a server can invent
// parties. One piece is enough against an identity; a few are kept, to show that it
// was not an accident.
const (
	maxEvidenceEach  = 4        // pieces against one identity
	maxEvidence      = 256      // pieces
	maxEvidenceBytes = 64 << 20 // of all files
)

// errEvidenceFull is returned by PutEvidence.
var errEvidenceFull = fmt.Errorf("the directory holds %d pieces, or %d MiB: move some elsewhere", maxEvidence, maxEvidenceBytes>>20)

// evidenceStock is the content of a directory of evidence.
type evidenceStock struct {
	files   int
	bytes   int64
	against map[string][]string // paths, by fingerprint
}

// PutEvidence implements [participant.EvidenceStore]. It keeps the first evidence
// against a party of a run, and the first 4 pieces against an identity: for a
// further one it returns the path of the last of these. All together are at most
// 256 files and 64 MiB.
func (s *Store) PutEvidence(_ context.Context, e *statement.Evidence) (string, error) {
	text, err := e.Marshal()
	if err != nil {
		return "", fmt.Errorf("keep evidence: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	dir := filepath.Join(s.dir, "evidence")
	if err := secret.MakeDir(dir); err != nil {
		return "", fmt.Errorf("keep evidence: %w", err)
	}
	path := filepath.Join(dir, fmt.Sprintf("%s~%d~%d.json", fileName(e.SessionID), e.Attempt, e.From))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	stock, err := readEvidence(dir)
	if err != nil {
		return "", fmt.Errorf("keep evidence: %w", err)
	}
	culprit := accused(e)
	if kept := stock.against[culprit]; len(kept) >= maxEvidenceEach {
		return kept[len(kept)-1], nil
	}
	if stock.files >= maxEvidence || stock.bytes+int64(len(text)) >= maxEvidenceBytes {
		return "", fmt.Errorf("keep evidence: %w", errEvidenceFull)
	}
	if err := secret.WriteFile(path, append(text, '\n')); err != nil {
		return "", fmt.Errorf("keep evidence: %w", err)
	}
	return path, nil
}

// readEvidence lists a directory. It is read again for each piece, which is rare,
// since people remove files.
func readEvidence(dir string) (evidenceStock, error) {
	stock := evidenceStock{against: map[string][]string{}}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return stock, err
	}
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".json") || strings.HasPrefix(entry.Name(), secret.TempPrefix) {
			continue
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return stock, err
		}
		stock.files++
		stock.bytes += info.Size()
		path := filepath.Join(dir, entry.Name())
		// An unreadable file counts, but against no identity.
		if text, err := readBounded(path, maxEvidenceBytes); err == nil {
			if e, err := statement.ParseEvidence(text); err == nil {
				stock.against[accused(e)] = append(stock.against[accused(e)], path)
			}
		}
	}
	return stock, nil
}

// accused returns the fingerprint of the accused party.
func accused(e *statement.Evidence) string {
	i := slices.IndexFunc(e.Parties, func(m identity.Member) bool { return m.Index == e.From })
	if i < 0 {
		return ""
	}
	return e.Parties[i].Identity.Fingerprint()
}
