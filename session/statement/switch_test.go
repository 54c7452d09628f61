package statement

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
)

// modelled is one configuration of testdata/switch.pml: what each definition means is
// said there.
type modelled struct {
	name, defines string
	quick         bool // in the sample of go test
	violates      bool // spin must find a counter-example
}

// switches are the configurations that must hold, and each rule of the switch taken out.
var switches = []modelled{
	{name: "a refresh tried twice", defines: "K=2 TABLE=1", quick: true},
	{name: "two attempts, every committee", defines: "K=2 TABLE=0"},
	{name: "three attempts, with forks", defines: "K=3 TABLE=1"},
	{name: "one device goes back", defines: "K=2 TABLE=1 RESTORE=1"},
	// ONE and ASCENDING have no counter-example of their own: what holds without them holds with them.
	{name: "no malicious member, any consents", defines: "K=2 TABLE=4 F=0 ONE=0 ASCENDING=0"},
	{name: "two devices and Redis go back", defines: "K=1 TABLE=1 F=0 N=3 WIPES=2"},
	{name: "two devices go back, all copies are lost", defines: "K=1 TABLE=1 F=0 N=3 WIPES=2 LOST_COPIES=1"},
	{name: "one replaced, and one device goes back", defines: "K=2 TABLE=5 RESTORE=1"},
	{name: "three honest old and new members, 3 of 4", defines: "K=1 TABLE=3 N=6 T=3"},

	{name: "share after its attestation", defines: "TABLE=1 SYNC=0", violates: true, quick: true},
	{name: "number taken twice", defines: "TABLE=1 SEEN=0", violates: true, quick: true},
	{name: "deletion without certificate", defines: "TABLE=1 CERT=0", violates: true, quick: true},
	{name: "deletion without own share", defines: "K=1 TABLE=1 F=0 N=3 WIPES=2 LOST_COPIES=1 REREAD=0", violates: true},
	{name: "share dropped when given up", defines: "TABLE=1 KEEP_GIVEN=0", violates: true, quick: true},
	{name: "share dropped for a lower sibling", defines: "TABLE=1 KEEP_SIBLING=0", violates: true, quick: true},
	{name: "old epochs sign on", defines: "TABLE=1 RESTORE=1 REFUSE=0", violates: true, quick: true},
	{name: "first come instead of highest", defines: "TABLE=1 ORDER=0", violates: true},
	{name: "walk along the higher children", defines: "K=3 TABLE=1 ORDER=2 PLAIN=1", violates: true},
	{name: "no order within a number", defines: "TABLE=0 TIE=0", violates: true},
	{name: "some attestations, consent in advance", defines: "TABLE=0 ALL=0 LAST=0", violates: true},
	{name: "certificate without its parent's", defines: "TABLE=0 CHAIN=0", violates: true},
	{name: "one consent less", defines: "TABLE=1 QUORUM=0", violates: true, quick: true},
	{name: "no signed request", defines: "TABLE=0 SIGNED=0", violates: true},
	{name: "consent to a child of an old epoch", defines: "TABLE=1 PARENT=0", violates: true, quick: true},
	{name: "consent after giving up", defines: "TABLE=1 GIVEN_UP=0", violates: true, quick: true},
	{name: "request without an epoch", defines: "TABLE=1 MIN=0", violates: true, quick: true},
	{name: "server deletes too early", defines: "K=1 TABLE=1 F=0 N=3 WIPES=2 KEEP_COPIES=0", violates: true},
}

// TestSwitchModel checks the model of the switch between epochs exhaustively, and that
// it finds a counter-example as soon as one of the rules is taken out.
func TestSwitchModel(t *testing.T) {
	for _, program := range []string{"spin", "gcc"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("CONCLAVE_REQUIRE_REAL") == "1" {
				t.Fatalf("%s is not on the PATH and CONCLAVE_REQUIRE_REAL=1", program)
			}
			t.Skipf("%s is not on the PATH", program)
		}
	}
	model, err := filepath.Abs("testdata/switch.pml")
	if err != nil {
		t.Fatal(err)
	}
	var quick, hold []modelled
	for _, m := range switches {
		switch {
		case m.quick && m.violates:
			quick = append(quick, m)
		case m.quick:
			hold = append(hold, m)
		}
	}
	rows := sample.Or(append(hold, sample.Of(1, quick)...), switches)
	for _, m := range rows {
		t.Run(m.name, func(t *testing.T) { m.check(t, model) })
	}
}

// counts are the lines of a verification that say how large it was.
var counts = regexp.MustCompile(`(?m)^.*(depth reached|states, stored|total actual memory usage).*$`)

func (m modelled) check(t *testing.T, model string) {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	dir := t.TempDir()
	// Without a bound, spin itself can take all memory for a model it cannot expand.
	run := func(program string, args ...string) string {
		cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", `ulimit -v 6000000; exec "$@"`, "sh", program}, args...)...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", program, err, out)
		}
		return string(out)
	}
	var args []string
	for _, d := range strings.Fields(m.defines) {
		args = append(args, "-D"+d)
	}
	run("spin", append(args, "-a", model)...)
	run("gcc", sample.Or("-O1", "-O2"), "-w", "-DSAFETY", "-DNOREDUCE", "-DCOLLAPSE", "-DMEMLIM=5500", "-o", "pan", "pan.c")
	out := run("./pan", "-E", "-m100000")
	t.Logf("%s\n%s", m.defines, strings.Join(counts.FindAllString(out, -1), "\n"))
	found := strings.Contains(out, "assertion violated")
	switch {
	case m.violates && !found:
		t.Errorf("no counter-example without the rule:\n%s", out)
	case !m.violates && found:
		t.Errorf("a property does not hold:\n%s\n%s", out, run("./pan", "-r", "switch.pml.trail"))
	case !m.violates && (!strings.Contains(out, "errors: 0") || strings.Contains(out, "Search not completed")):
		t.Errorf("the search is not exhaustive:\n%s", out)
	}
}
