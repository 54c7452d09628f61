package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	sampling "github.com/conclave-mpc/conclave/cluster/redistest/sample"
	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/preparams"
)

// TestMain makes the test binary act as this program in a role.
func TestMain(m *testing.M) {
	if os.Getenv(asRole) != "" {
		os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// TestBenchmarks runs the cheap benchmarks, as short as possible, so that the
// program does not rot. The figures mean nothing here.
func TestBenchmarks(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("CONCLAVE_REQUIRE_REAL") == "1" {
			t.Fatal("redis-server is not on the PATH and CONCLAVE_REQUIRE_REAL=1")
		}
		t.Skip("redis-server is not on the PATH")
	}
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc")
	}
	dir := t.TempDir()
	o := options{short: true, json: true, plot: filepath.Join(dir, "plot"), profile: filepath.Join(dir, "profile")}
	o.names = []string{"sign-ed25519", "sessions", "relay", "idle"}
	var log, out bytes.Buffer
	l := newLab(o, &log)
	l.brief = true
	if err := measure(t.Context(), o, l, &out); err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	for _, name := range o.names {
		if !slices.ContainsFunc(r.Figures, func(f figure) bool { return f.Bench == name && f.Ours.Median > 0 }) {
			t.Errorf("no figure of %s: %s", name, out.String())
		}
	}
	if profiles, _ := filepath.Glob(filepath.Join(o.profile, "*.cpu")); len(profiles) == 0 {
		t.Error("no profile was written")
	}
}

// TestRawECDSA checks the raw side of the most expensive benchmark, and that our
// pre-parameters serve both sides.
func TestRawECDSA(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("generates a key")
	}
	if !sampling.Full() {
		t.Skip(sampling.Reason)
	}
	next := 0
	l := newLab(options{}, os.Stderr)
	l.preParams = func(context.Context) (*preparams.Set, error) {
		next++
		return partytest.PreParams(t, next-1), nil
	}
	ours, raw, err := l.prepared(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newStock(ours...).Take(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := newStock().Take(t.Context()); err == nil {
		t.Error("an empty stock gives")
	}
	saves, err := rawKeygenECDSA(2, 2, raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := rawSignECDSA(saves, 2, saves[0].ShareID); err != nil {
		t.Error(err)
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	r := report{bench: "some", Short: true}
	r.compare("twice as slow", "ms", sample{2, 4, 6, 8}, sample{1, 2, 3, 4}, goal{atMost: 1.5})
	r.compare("as fast", "/s", sample{10}, sample{10}, goal{atLeast: 0.9})
	r.note("small", "KB", sample{3}, goal{oursAtMost: 14})
	var text bytes.Buffer
	if err := r.writeTable(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2.00", "≤ 1.5 MISSED", "≥ 0.9 ok", "figure ≤ 14 ok", "5 (3.5–6.5) ms", "rough estimates"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the table does not say %q:\n%s", want, text.String())
		}
	}
	for i := range 3 {
		r.point("A chart (of two)", "ours", "x", "y", true, float64(i+1), float64(i))
		r.point("A chart (of two)", "base", "x", "y", true, float64(i+1), 1)
	}
	dir := t.TempDir()
	if err := r.plot(dir); err != nil {
		t.Fatal(err)
	}
	svg, err := os.ReadFile(filepath.Join(dir, "a-chart-of-two.svg"))
	if err != nil || !bytes.Contains(svg, []byte("<svg")) || len(r.Series) != 2 {
		t.Errorf("chart: %v, %d series", err, len(r.Series))
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	s := sample{4, 1, 3, 2}
	for q, want := range map[float64]float64{0: 1, 0.5: 2.5, 1: 4, 0.25: 1.75} {
		if got := s.quantile(q); got != want {
			t.Errorf("quantile %g: got %g, want %g", q, got, want)
		}
	}
	if (sample{}).quantile(0.5) != 0 || (sample{}).mean() != 0 || s.mean() != 2.5 {
		t.Error("mean, or an empty sample")
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args   []string
		status int
	}{{[]string{"-h"}, 0}, {[]string{"-nonsense"}, 2}, {[]string{"no-such"}, 2}} {
		var stderr bytes.Buffer
		if got := run(t.Context(), tc.args, strings.NewReader(""), &stderr, &stderr); got != tc.status {
			t.Errorf("%v: status %d, want %d", tc.args, got, tc.status)
		}
		if !strings.Contains(stderr.String(), "sign-ecdsa") {
			t.Errorf("%v: no usage: %s", tc.args, stderr.String())
		}
	}
}
