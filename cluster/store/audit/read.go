package audit

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/conclave-mpc/conclave/session/audit"
)

// ErrCursor is returned by Read for an after that it did not return.
var ErrCursor = errors.New("audit: after is not a position that this audit gave")

// Read returns up to limit entries after a position in the stream, oldest first,
// unchanged, and the position of the last of them, or after if there are no more. After
// is empty for the beginning. ErrCursor.
func (l *Log) Read(ctx context.Context, after string, limit int) (entries []audit.Fields, next string, err error) {
	from := "-"
	if after != "" {
		if from, err = behind(after); err != nil {
			return nil, "", err
		}
	}
	// Not XRange, whose map of an entry loses duplicate fields.
	reply, err := l.cfg.Redis.Do(ctx, "XRANGE", l.streamKey(), from, "+", "COUNT", limit).Slice()
	if err != nil {
		return nil, "", fmt.Errorf("read the audit: %w", err)
	}
	for _, r := range reply {
		pair, _ := r.([]any)
		if len(pair) != 2 {
			return nil, "", errors.New("read the audit: unexpected reply")
		}
		after, _ = pair[0].(string)
		raw, _ := pair[1].([]any)
		texts := make([]string, len(raw))
		for i := range raw {
			texts[i], _ = raw[i].(string)
		}
		entries = append(entries, audit.NewFields(texts))
	}
	return entries, after, nil
}

// behind returns the position after one.
func behind(position string) (string, error) {
	ms, seq, _ := strings.Cut(position, "-")
	_, err1 := strconv.ParseUint(ms, 10, 64)
	n, err2 := strconv.ParseUint(seq, 10, 64)
	if err1 != nil || err2 != nil || n+1 == 0 {
		return "", ErrCursor
	}
	return ms + "-" + strconv.FormatUint(n+1, 10), nil
}
