package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pty is a terminal of some size with a command on it.
type pty struct {
	t       *testing.T
	master  *os.File
	process *os.Process

	mu     sync.Mutex
	cond   *sync.Cond
	screen bytes.Buffer // all output
	closed bool
}

// onTerminal starts a command on a terminal with so many columns. It is killed
// with the test.
func onTerminal(t *testing.T, columns uint16, cmd *exec.Cmd) *pty {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there is no terminal to be had: %v", err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there is no terminal to be had: %v", err)
	}
	if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	p := &pty{t: t, master: master, process: cmd.Process}
	p.cond = sync.NewCond(&p.mu)
	done := make(chan struct{})
	go p.read(done)
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		<-done
		master.Close()
		if t.Failed() {
			t.Logf("the terminal got:\n%q", p.text())
		}
	})
	return p
}

// read ends when the other side is closed.
func (p *pty) read(done chan struct{}) {
	defer close(done)
	buf := make([]byte, 4096)
	for {
		n, err := p.master.Read(buf)
		p.mu.Lock()
		p.screen.Write(buf[:n])
		p.closed = err != nil
		p.cond.Broadcast()
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (p *pty) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.screen.String()
}

// expect waits until the terminal has got text.
func (p *pty) expect(text string) {
	p.t.Helper()
	p.until(fmt.Sprintf("%q", text), func(screen string) bool { return strings.Contains(screen, text) })
}

// question waits until the terminal has got its n-th question, and returns the
// code.
func (p *pty) question(n int) (code string) {
	p.t.Helper()
	p.until(fmt.Sprintf("question %d", n), func(screen string) bool {
		var codes []string // a question is redrawn when a line is printed above it
		for _, m := range codeShown.FindAllStringSubmatch(screen, -1) {
			if !slices.Contains(codes, m[1]) {
				codes = append(codes, m[1])
			}
		}
		if len(codes) >= n {
			code = codes[n-1]
		}
		return code != ""
	})
	return code
}

// until waits for a condition on the terminal's output.
func (p *pty) until(what string, ok func(screen string) bool) {
	p.t.Helper()
	stop := time.AfterFunc(2*time.Minute, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.closed = true
		p.cond.Broadcast()
	})
	defer stop.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for !ok(p.screen.String()) {
		if p.closed {
			p.t.Fatalf("the terminal does not get %s:\n%q", what, p.screen.String())
		}
		p.cond.Wait()
	}
}

// stops halts the command, or resumes it.
func (p *pty) stops(halt bool) {
	p.t.Helper()
	signal := syscall.SIGCONT
	if halt {
		signal = syscall.SIGSTOP
	}
	if err := p.process.Signal(signal); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pty) types(text string) {
	p.t.Helper()
	if _, err := io.WriteString(p.master, text); err != nil {
		p.t.Fatal(err)
	}
}

// seat is one user's command line.
type seat struct {
	t    *testing.T
	home string
	env  []string
}

func (s seat) command(args ...string) *exec.Cmd {
	program, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Args[0] = "conclave" // the name under which this test binary runs it: see testscript.Main
	cmd.Env = append([]string{"CONCLAVE_HOME=" + s.home, "TERM=xterm", "PATH=" + os.Getenv("PATH")}, s.env...)
	return cmd
}

func (s seat) run(args ...string) string {
	s.t.Helper()
	cmd := s.command(args...)
	cmd.Stdin = strings.NewReader("open sesame\n")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

// seats are users, logged in at a node.
func seats(t *testing.T, url string, names ...string) map[string]seat {
	t.Helper()
	all := map[string]seat{}
	for _, name := range names {
		all[name] = seat{t: t, home: filepath.Join(t.TempDir(), name)}
		all[name].run("login", url, name)
	}
	return all
}

// TestTerminal: two participants and their coordinator sit at terminals. One
// participant has a narrow one without UTF-8, the other asks for no colours. The
// data to sign is made to look like something else.
func TestTerminal(t *testing.T) {
	t.Parallel()
	url, err := realNode(t)
	if err != nil {
		t.Fatal(err)
	}
	users := seats(t, url, "alice", "bob", "carol")
	bob := users["bob"]
	bob.env = []string{"LC_ALL=C"}
	narrow := onTerminal(t, 50, bob.command("participant", "--preparams", "0"))
	wide := onTerminal(t, 120, users["carol"].command("participant", "--preparams", "0", "--no-color"))
	narrow.expect("connected to n1")
	wide.expect("connected to n1")

	keygen := onTerminal(t, 100, users["alice"].command("keygen", "--curve", "ed25519", "--key-id", "schlüssel", "bob", "carol"))
	narrow.expect("conclave: make the key? [y ")
	wide.expect("conclave: make key schlüssel for alice? [y ")
	keygen.expect("waiting for ")
	narrow.types("y " + narrow.question(1) + "\n")
	wide.types("maybe\n")
	wide.expect("not answered yet: type y or n with the code")
	wide.types("y " + wide.question(2) + "\n")
	keygen.expect("\x1b[K") // the status is overwritten
	keygen.expect("public key  0x")
	narrow.expect(`  key        schl\u00fcssel`)
	wide.expect("  key        schlüssel")
	wide.expect(" of 2") // rounds that pass quickly are not all shown

	const evil = "pay bob\x1b[2J\x1b[31m\r\n    digest        0x00\u202e100 eve\u0007"
	sign := onTerminal(t, 100, users["alice"].command("sign", "schlüssel", "--data", evil))
	wide.expect("conclave: sign with schlüssel for alice? [y ")
	narrow.expect("conclave: sign? [y ")
	narrow.types("y " + narrow.question(2) + "\n")
	sign.expect("conclave: bob accepted")
	narrow.stops(true)
	wide.types("y " + wide.question(3) + "\n")
	wide.expect(" · waiting for bob")
	narrow.stops(false)
	sign.expect("signature   0x")
	shown := `"pay bob\x1b[2J\x1b[31m\r\n    digest        0x00\u202e100 eve\a"`
	narrow.expect(shown[:37]) // of 37 columns
	wide.expect("  data       " + shown)
	wide.expect("success")
	narrow.expect("success")

	watch := onTerminal(t, 79, users["alice"].command("sessions", "watch", newest(t, users["alice"])))
	watch.expect("|<-- sign_complete ")
	watch.expect("verified    here, by data and address")
	watch.expect(shown)

	for name, p := range map[string]*pty{"narrow": narrow, "wide": wide, "keygen": keygen, "sign": sign, "watch": watch} {
		foul := strings.NewReplacer("\x1b[K", "", "\x1b[1m", "", "\x1b[2m", "", "\x1b[31m", "", "\x1b[32m", "", "\x1b[0m", "").Replace(p.text())
		if strings.ContainsAny(foul, "\x1b\a\u202e") {
			t.Errorf("%s: a request reaches the terminal: %q", name, foul)
		}
	}
	if strings.Contains(strings.ReplaceAll(wide.text(), "\x1b[K", ""), "\x1b") {
		t.Errorf("colours, and none were asked for: %q", wide.text())
	}
	if !strings.Contains(narrow.text(), "\x1b[1m") {
		t.Errorf("no colours: %q", narrow.text())
	}
	for _, b := range []byte(narrow.text()) {
		if b >= 0x80 {
			t.Fatalf("a terminal without UTF-8 gets it: %q", narrow.text())
		}
	}
}

// newest is the id of a user's newest session.
func newest(t *testing.T, s seat) string {
	t.Helper()
	_, rest, ok := strings.Cut(s.run("sessions", "--json", "--limit", "1"), `"session_id": "`)
	id, _, closed := strings.Cut(rest, `"`)
	if !ok || !closed {
		t.Fatal("there is no session")
	}
	return id
}
