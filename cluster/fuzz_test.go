package cluster

import (
	"bytes"
	"strconv"
	"strings"
	"testing"

	"github.com/rs/zerolog"
)

// FuzzPublication sends a node any publication on its channel: an unknown one is
// logged by its size, with no other effect.
func FuzzPublication(f *testing.F) {
	for _, seed := range []string{"m c1 17 5 payload", "m c1 17 -5 ", "m c1 17 payload", "m c1 17 x payload", "s c1", "m  0 ", "m c1 -1 x", "m c1 99999999999999999999 x", "m", "", "x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var out bytes.Buffer
		n := &Node{log: zerolog.New(&out), conns: map[string]*Membership{}}
		n.receive(text)
		kind, rest, _ := strings.Cut(text, " ")
		fields := strings.SplitN(rest, " ", 4)
		understood := kind == "s"
		if kind == "m" && len(fields) == 4 {
			_, err1 := strconv.ParseUint(fields[1], 10, 64)
			_, err2 := strconv.ParseInt(fields[2], 10, 64)
			understood = err1 == nil && err2 == nil
		}
		if understood != (out.Len() == 0) || len(text) > 20 && strings.Contains(out.String(), text) {
			t.Errorf("%q: logged %s", text, out.String())
		}
	})
}
