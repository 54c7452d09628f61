package quiet

import (
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// TestQuietLog: a flood of warnings is cut, and omitted ones are counted.
func TestQuietLog(t *testing.T) {
	b := Budget{Most: 3}
	now := time.Now()
	shown := 0
	for range 10 {
		if ok, left := b.Take(now); ok || left != 0 {
			shown++
		}
	}
	ok, left := b.Take(now.Add(quietPeriod))
	if shown != 3 || !ok || left != 7 {
		t.Errorf("%d are shown, then %t with %d left out", shown, ok, left)
	}
	var out strings.Builder
	log := Log(zerolog.New(&out))
	for range 10 * maxWarnings {
		log.Warn().Msg("nonsense")
	}
	if n := strings.Count(out.String(), "\n"); n != maxWarnings {
		t.Errorf("%d lines, want %d", n, maxWarnings)
	}
}
