package dirstore

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/party/partytest"
)

func openPreDir(t *testing.T, dir string, id *identity.Identity) *PreParams {
	t.Helper()
	d, err := OpenPreParams(dir, id)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// privateDir is a directory for its owner alone, as a client's home is.
func privateDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestPreParamsDir(t *testing.T) {
	t.Parallel()
	dir, id := filepath.Join(privateDir(t), "preparams"), partytest.Identity(t)
	d := openPreDir(t, dir, id)
	if p, err := d.Take(); p != nil || err != nil {
		t.Fatalf("an empty directory gives %v, %v", p, err)
	}
	var want [][]byte
	for i := range 2 {
		p := partytest.PreParams(t, i)
		plain, err := p.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, plain)
		if err := d.Put(p); err != nil {
			t.Fatal(err)
		}
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(files) != 2 {
		t.Fatalf("the directory holds %v, want two files", files)
	}
	for _, file := range files {
		info, err := os.Stat(file)
		text, err2 := os.ReadFile(file)
		if err != nil || err2 != nil || info.Mode().Perm() != 0o600 || bytes.Contains(text, []byte("PaillierSK")) {
			t.Errorf("%s: mode %v, %v, %v, or it is not sealed", file, info.Mode(), err, err2)
		}
	}
	// Another identity's sets, and damaged ones, are skipped.
	if err := os.WriteFile(filepath.Join(dir, "0.pre"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err := openPreDir(t, dir, partytest.Identity(t)).Take(); p != nil || err != nil {
		t.Errorf("another identity is given %v, %v", p, err)
	}
	var got [][]byte
	for range 2 {
		p, err := openPreDir(t, dir, id).Take() // as after a restart
		if err != nil || p == nil {
			t.Fatalf("got %v, %v", p, err)
		}
		plain, err := p.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, plain)
	}
	if bytes.Equal(got[0], got[1]) {
		t.Error("one set came out twice")
	}
	for _, plain := range got {
		if !bytes.Equal(plain, want[0]) && !bytes.Equal(plain, want[1]) {
			t.Error("a set came out changed")
		}
	}
	if p, err := d.Take(); p != nil || err != nil {
		t.Errorf("after the last set: %v, %v", p, err)
	}
}

const takerDir = "CONCLAVE_TEST_TAKER_DIR"

// TestPreParamsTaker is not a test, but the process that the next one kills.
func TestPreParamsTaker(t *testing.T) {
	dir := os.Getenv(takerDir)
	if dir == "" {
		t.Skip("is started by another test")
	}
	id, _, err := LoadIdentity(filepath.Join(dir, "identity"), nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := openPreDir(t, filepath.Join(dir, "preparams"), id).Take()
	if err != nil || p == nil {
		t.Fatalf("got %v, %v", p, err)
	}
	os.Stdout.WriteString("taken\n")
	select {}
}

// A process dies between taking a set and using it: the set never comes back.
func TestKilledBetweenTakeAndUse(t *testing.T) {
	t.Parallel()
	dir := privateDir(t)
	id, _, err := LoadIdentity(filepath.Join(dir, "identity"), nil)
	if err != nil {
		t.Fatal(err)
	}
	d := openPreDir(t, filepath.Join(dir, "preparams"), id)
	if err := d.Put(partytest.PreParams(t, 0)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestPreParamsTaker$", "-test.v")
	cmd.Env = append(os.Environ(), takerDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	taken := false
	for lines := bufio.NewScanner(out); !taken && lines.Scan(); {
		taken = lines.Text() == "taken"
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if !taken {
		t.Fatal("the process did not take the set")
	}
	if p, err := openPreDir(t, filepath.Join(dir, "preparams"), id).Take(); p != nil || err != nil {
		t.Errorf("a set that was taken came out again: %v, %v", p, err)
	}
}

// A crash leaves the renamed file: it is removed at the next start, not used.
func TestUsedSetIsRemoved(t *testing.T) {
	t.Parallel()
	dir, id := filepath.Join(privateDir(t), "preparams"), partytest.Identity(t)
	d := openPreDir(t, dir, id)
	if err := d.Put(partytest.PreParams(t, 0)); err != nil {
		t.Fatal(err)
	}
	names, err := d.names(waitingSuffix)
	if err != nil || len(names) != 1 {
		t.Fatalf("%v, %v", names, err)
	}
	if err := os.Rename(d.path(names[0], waitingSuffix), d.path(names[0], usedSuffix)); err != nil {
		t.Fatal(err)
	}
	if p, err := openPreDir(t, dir, id).Take(); p != nil || err != nil {
		t.Errorf("got %v, %v", p, err)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "*")); len(files) != 0 {
		t.Errorf("%v was left behind", files)
	}
}
