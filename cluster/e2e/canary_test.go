package e2e_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/gorilla/websocket"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
)

// aviary is a scenario with planted secrets, and all the places where they must not
// appear.
type aviary struct {
	t        *testing.T
	c        *testCluster
	binary   string // conclave
	dir      string
	canaries []canary
	places   map[string]string // texts by their source
	live     map[string]func() string
	users    map[string]*cli
	ids      map[string]*identity.Identity
}

const (
	canaryPassword   = "c4n4ry p4ssword of "
	canaryMistyped   = "c4n4ry mistyped p4ssword"
	canaryPassphrase = "c4n4ry p4ssphrase of bob"
	canaryMistaken   = "c4n4ry mistaken p4ssphrase"
	canaryRedis      = "c4n4ry-redis-p4ssword"
	canaryGarbage    = "c4n4ry-t0ken-that-is-none"
)

// TestCanary runs real programs at their most verbose through a key's whole life
// with its failures: mistyped passwords, refused messages, damaged files, crashes.
// No secret is found in their logs, output, answers, data in Redis, arguments and
// environment, or crash output.
func TestCanary(t *testing.T) {
	inTurn(t, "long stories", 0, 2)
	t.Parallel()
	binary := conclaveBinary(t)
	eachCluster(t, 0, withKEK, func(t *testing.T, c *testCluster) {
		a := &aviary{
			t: t, c: c, binary: binary, dir: t.TempDir(),
			places: map[string]string{}, live: map[string]func() string{}, users: map[string]*cli{}, ids: map[string]*identity.Identity{},
		}
		kek, err := base64.StdEncoding.DecodeString(testKEK)
		if err != nil {
			t.Fatal(err)
		}
		a.plant("token secret", []byte(testSecret))
		a.plant("share key-encryption key", kek)
		a.plant("mistyped password", []byte(canaryMistyped))
		a.plant("mistaken passphrase", []byte(canaryMistaken))
		a.plant("redis password", []byte(canaryRedis))
		a.plant("token that is none", []byte(canaryGarbage))

		c.secretFile = a.file("jwt-secret", testSecret)
		for range 2 {
			c.start()
		}
		a.enter()
		key := a.sign()
		a.plantShares(key)
		a.seedClients()
		a.mistakes(key)
		a.look()
		a.crash()
		for where, text := range a.live {
			a.places[where] = text()
		}
		for key, content := range c.everything() {
			a.places["redis "+key] = content
		}

		for where, text := range a.places {
			if found := search(a.canaries, text); found != nil {
				t.Errorf("%s holds a secret: %s", where, strings.Join(found, "; "))
			}
		}
		a.leakIsFound()
	})
}

func (a *aviary) plant(name string, secret []byte) {
	a.canaries = append(a.canaries, plant(name, secret))
}

func (a *aviary) file(name, text string) string {
	a.t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// try runs a program to its end, which must be a failure if fails is true, and keeps
// its output.
func (a *aviary) try(fails bool, cmd *exec.Cmd, stdin string) string {
	a.t.Helper()
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	a.places[fmt.Sprintf("output %d of %s", len(a.places), strings.Join(cmd.Args, " "))] = string(out)
	if (err != nil) != fails {
		a.t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return string(out)
}

// enter creates accounts and identities, logs in, and starts the participants.
func (a *aviary) enter() {
	a.t.Helper()
	daemon, err := conclaved()
	if err != nil {
		a.t.Fatal(err)
	}
	for i, user := range []string{"alice", "bob", "carol"} {
		role := "participant"
		if i == 0 {
			role = "coordinator"
		}
		password := canaryPassword + user
		a.plant("password of "+user, []byte(password))
		u := &cli{t: a.t, binary: a.binary, home: filepath.Join(a.dir, user), env: []string{"GOTRACEBACK=system"}}
		if user == "bob" { // opening it takes a second each time
			a.plant("passphrase", []byte(canaryPassphrase))
			u.env = append(u.env, "CONCLAVE_PASSPHRASE_FILE="+a.file("passphrase", canaryPassphrase+"\n"))
		}
		a.users[user] = u
		for _, exists := range []bool{false, true} {
			a.try(exists, exec.Command(daemon, "user", "add", user, "--role", role, "--redis", a.c.url, "--redis-prefix", a.c.prefix), password+"\n")
		}
		a.try(true, u.command("login", a.c.nodes[0].base, user), canaryMistyped+"\n")
		a.try(false, u.command("login", a.c.nodes[i%2].base, user), password+"\n")
		a.plantToken(u, user)
		a.try(false, u.command("identity", "--public"), "")
		a.plantIdentity(u, user)
		if role == "participant" {
			u.pin("alice", a.users["alice"])
			a.participant(user)
		}
	}
}

// plantToken plants the secret part of a login's token: its signature.
func (a *aviary) plantToken(u *cli, user string) {
	a.t.Helper()
	text, err := os.ReadFile(filepath.Join(u.home, "profile.json"))
	if err != nil {
		a.t.Fatal(err)
	}
	var p struct {
		Token string `json:"token"`
	}
	decode(a.t, string(text), &p)
	_, signature, _ := strings.Cut(strings.TrimPrefix(p.Token, "eyJ"), ".")
	_, signature, ok := strings.Cut(signature, ".")
	raw, err := base64.RawURLEncoding.DecodeString(signature)
	if !ok || err != nil {
		a.t.Fatalf("profile.json holds no token: %v", err)
	}
	a.plant("token of "+user, raw)
}

// plantIdentity plants the private keys of an identity. If its file is protected, it
// uses the real work factor.
func (a *aviary) plantIdentity(u *cli, user string) {
	a.t.Helper()
	text, err := os.ReadFile(filepath.Join(u.home, "identity"))
	if err != nil {
		a.t.Fatal(err)
	}
	if user == "bob" {
		file, err := io.ReadAll(armor.NewReader(bytes.NewReader(text)))
		if err != nil || !bytes.Contains(file, []byte(" 18\n")) {
			a.t.Errorf("the identity is not protected with scrypt's 2^18: %v", err)
		}
	}
	id, err := identity.Open(text, []byte(canaryPassphrase))
	if err != nil {
		a.t.Fatal(err)
	}
	a.ids[user] = id
	secret, err := id.Secret()
	if err != nil {
		a.t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(secret), "\n")[1:] {
		name, key, _ := strings.Cut(line, " ")
		raw, err := base64.StdEncoding.DecodeString(key)
		if name == "age" {
			raw, err = []byte(strings.TrimPrefix(key, "AGE-SECRET-KEY-PQ-1")), nil
		}
		if err != nil {
			a.t.Fatal(err)
		}
		a.plant(name+" key of "+user, raw)
	}
}

// participant starts a participant with full logging.
func (a *aviary) participant(user string) {
	a.t.Helper()
	cmd, out := a.users[user].participate(user, "--verbose")
	a.users[user].running = cmd
	a.live["log of participant "+user] = out.String
}

// sign generates a key and a signature.
func (a *aviary) sign() (keyID string) {
	a.t.Helper()
	var key struct {
		KeyID string `json:"key_id"`
	}
	alice := a.users["alice"]
	decode(a.t, alice.run("", "keygen", "--threshold", "2", "--curve", "ed25519", "-json", "bob", "carol"), &key)
	a.try(false, alice.command("sign", key.KeyID, "--data", "pay eve", "--verbose"), "")
	return key.KeyID
}

// plantShares plants the plaintext of the shares, and the key they would make.
func (a *aviary) plantShares(keyID string) {
	a.t.Helper()
	var shares []*share.Share
	for _, user := range []string{"bob", "carol"} {
		files, err := filepath.Glob(filepath.Join(a.users[user].home, "shares", "*.json"))
		if err != nil || len(files) != 1 {
			a.t.Fatalf("shares of %s: %v, %v", user, files, err)
		}
		text, err := os.ReadFile(files[0])
		if err != nil {
			a.t.Fatal(err)
		}
		held, err := share.Open(string(text), a.ids[user])
		if err != nil {
			a.t.Fatal(err)
		}
		shares = append(shares, held)
		a.canaries = append(a.canaries, plantNumber("share of "+user, secretOf(a.t, string(text), a.ids[user])))
	}
	key, err := share.Recover(shares)
	if err != nil {
		a.t.Fatal(err)
	}
	raw, err := pubkey.Decode(key.Secret())
	if err != nil {
		a.t.Fatal(err)
	}
	a.plant("private key of "+keyID, raw)
}

// secretOf opens a share with age alone and extracts its number.
func secretOf(t *testing.T, shareJSON string, id age.Identity) *big.Int {
	t.Helper()
	var outside struct{ Sealed string }
	decode(t, shareJSON, &outside)
	r, err := age.Decrypt(armor.NewReader(strings.NewReader(outside.Sealed)), id)
	if err != nil {
		t.Fatal(err)
	}
	var inside struct {
		Secret struct{ EdDSA struct{ Xi *big.Int } }
	}
	if err := json.NewDecoder(r).Decode(&inside); err != nil || inside.Secret.EdDSA.Xi == nil {
		t.Fatalf("a share holds no number: %v", err)
	}
	return inside.Secret.EdDSA.Xi
}

// seedClients hand the node shares that are not sealed.
func (a *aviary) seedClients() {
	g := gatherParts(a.t, a.c)
	g.coordinator.user, g.coordinator.token = "dora", a.c.token("dora", "coordinator")
	g.coordinator.inbox = nil // alice's
	g.coordinator.connect(a.c.nodes[0])
	for i := 1; i <= 3; i++ {
		a.plant(fmt.Sprintf("unsealed share %d", i), []byte(plainShare(i)))
	}
	for _, s := range append(g.p[1:], g.coordinator) {
		a.plant("token of "+s.user, []byte(strings.Split(s.token, ".")[2]))
	}
	g.keygen(a.t)
	// A share is read before it is refused.
	g.p[1].send("keygen_complete", object{"key_id": "none", "part_index": 1, "account_addr": g.key.address, "share_json": plainShare(1)})
	g.p[1].expect("error")
	for _, s := range append(g.p[1:], g.coordinator) {
		s.mu.Lock()
		for _, m := range s.seen {
			if m.Type == "error" {
				a.places["error told to "+s.user] += string(m.Payload)
			}
		}
		s.mu.Unlock()
	}
}

// mistakes are errors of people, of files, and of unregistered users.
func (a *aviary) mistakes(keyID string) {
	a.t.Helper()
	bob, alice := a.users["bob"], a.users["alice"]
	wrong := a.file("wrong.passphrase", canaryMistaken)
	a.try(true, bob.command("identity", "--passphrase-file", wrong), "")
	a.try(true, bob.command("share", "check", "--passphrase-file", wrong), "")
	a.try(false, bob.command("share", "check"), "")
	a.try(false, bob.command("share", "export", keyID, "--to", filepath.Join(a.dir, "backup.json")), "")
	a.try(true, bob.command("recover", "--i-understand", filepath.Join(a.dir, "backup.json"), "--identity", filepath.Join(bob.home, "identity"),
		"--passphrase-file", filepath.Join(a.dir, "passphrase")), "")
	a.try(true, bob.command("identity", "--protect", "--new-passphrase-file", a.file("short", "short")), "")
	damaged := a.file("damaged", canaryMistaken+"\nsign "+canaryMistaken)
	a.try(true, bob.command("share", "check", "--identity", damaged), "")
	a.try(true, alice.command("sign", "no-such-key", "--data", "x", "--verbose"), "")
	a.try(true, alice.command("keys", "--verbose", "--token-file", a.file("token", canaryGarbage)), "")
	daemon, err := conclaved()
	if err != nil {
		a.t.Fatal(err)
	}
	a.try(true, exec.Command(daemon, "--jwt-secret-file", a.c.secretFile, "--redis", "redis://user:"+canaryRedis+"@127.0.0.1:1/0", "--listen", "127.0.0.1:0"), "")
	a.try(true, exec.Command(daemon, "--jwt-secret-file", a.c.secretFile, "--redis", "redis://user:"+canaryRedis+"@[::1/0", "--listen", "127.0.0.1:0"), "")

	base := a.c.nodes[0].base
	for _, body := range []string{
		fmt.Sprintf(`{"username":"bob","password":%q}`, canaryMistyped), fmt.Sprintf(`{"username":%q,"password":1}`, canaryMistyped),
		fmt.Sprintf(`{"username":"bob","password":%q`, canaryPassword+"bob"), canaryPassword + "bob",
		fmt.Sprintf(`{"username":"bob","password":%q,"more":1}`, canaryMistyped+strings.Repeat("x", 2<<20)),
	} {
		a.http("POST", base+"/v1/login", "", body)
	}
	for _, token := range []string{canaryGarbage, "eyJhbGciOiJub25lIn0." + canaryGarbage + ".", strings.Repeat(canaryGarbage, 1000)} {
		a.http("GET", base+"/v1/keys", token, "")
		a.http("POST", base+"/v1/keys", token, "{")
	}
	for _, frame := range []string{
		canaryGarbage, `{"type":"register","token":"` + canaryGarbage + `","payload":{"user_id":"bob","role":"participant"}}`,
		`{"type":"register","token":["` + canaryGarbage + `"]}`,
		`{"type":"register","token":"x","payload":"` + strings.Repeat(canaryGarbage, 100000) + `"}`,
	} {
		a.socket(frame)
	}
}

// http keeps a node's answer.
func (a *aviary) http(method, url, token, body string) {
	a.t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		a.t.Logf("%s %s: %v", method, url, err) // cut off, which counts as an answer
		return
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		a.t.Logf("%s %s: %v", method, url, err)
	}
	a.places[fmt.Sprintf("answer %d to %s %s", len(a.places), method, url)] = fmt.Sprint(resp.Status, resp.Header, string(text))
}

// socket keeps a node's answer to a first frame.
func (a *aviary) socket(frame string) {
	a.t.Helper()
	ws, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(a.c.nodes[1].base, "http")+"/ws", nil)
	if err != nil {
		a.t.Fatal(err)
	}
	defer ws.Close()
	_ = ws.WriteMessage(websocket.TextMessage, []byte(frame))
	_ = ws.SetReadDeadline(time.Now().Add(patience))
	said := ""
	for {
		_, text, err := ws.ReadMessage()
		said += string(text)
		if err != nil {
			var timeout interface{ Timeout() bool }
			if errors.As(err, &timeout) && timeout.Timeout() {
				a.t.Errorf("the node keeps a socket after %.60q", frame)
			}
			a.places[fmt.Sprintf("said %d on a socket", len(a.places))] = said + err.Error()
			return
		}
	}
}

// look collects everything that a node and the processes expose.
func (a *aviary) look() {
	a.t.Helper()
	for _, path := range []string{"/metrics", "/healthz", "/readyz", "/openapi.json", "/debug/pprof/goroutine?debug=2", "/debug/vars"} {
		a.http("GET", a.c.nodes[0].base+path, "", "")
	}
	if runtime.GOOS != "linux" {
		return
	}
	for _, user := range []string{"bob", "carol"} {
		a.process("participant "+user, a.users[user].running.Process.Pid, true)
	}
	for i, n := range a.c.nodes {
		// The secrets of a node may be in its environment, if its operator so
		// decides: here the key-encryption key is in its arguments.
		a.process(fmt.Sprintf("node %d", i+1), n.cmd.Process.Pid, false)
	}
}

func (a *aviary) process(name string, pid int, arguments bool) {
	a.t.Helper()
	for _, file := range []string{"cmdline", "environ", "limits"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
		switch {
		case errors.Is(err, os.ErrPermission) && file == "environ":
			// This user may not read it either: the process hides its memory.
		case err != nil:
			a.t.Fatal(err)
		case file == "limits":
			if !strings.Contains(strings.Join(strings.Fields(string(text)), " "), "Max core file size 0 0 bytes") {
				a.t.Errorf("%s may dump core:\n%s", name, text)
			}
		case file == "environ" || arguments:
			a.places[name+"'s "+file] = string(text)
		}
	}
}

// crash ends a node and a participant in the two ways in which Go prints the most.
func (a *aviary) crash() {
	a.t.Helper()
	for i, signal := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGSEGV} {
		before := len(a.c.logs.String())
		if err := a.c.nodes[i].cmd.Process.Signal(signal); err != nil {
			a.t.Fatal(err)
		}
		<-a.c.nodes[i].done
		user := []string{"bob", "carol"}[i]
		cmd := a.users[user].running
		if err := cmd.Process.Signal(signal); err != nil {
			a.t.Fatal(err)
		}
		_ = cmd.Wait()
		for who, text := range map[string]string{
			"node": a.c.logs.String()[before:], "participant": a.live["log of participant "+user](),
		} {
			if !strings.Contains(text, "goroutine ") || !strings.Contains(text, "main.main()") {
				a.t.Errorf("the %s did not crash with a trace on %v:\n%s", who, signal, text)
			}
		}
	}
	a.places["log of the nodes"] = a.c.logs.String()
}

// leakIsFound checks that one careless line would be found in each place, for each
// secret.
func (a *aviary) leakIsFound() {
	a.t.Helper()
	if len(a.places) < 50 || len(a.canaries) < 25 {
		a.t.Errorf("%d places and %d canaries are fewer than there should be", len(a.places), len(a.canaries))
	}
	for where, text := range a.places {
		if where == "log of the nodes" && len(text) < 10_000 {
			a.t.Errorf("the log has only %d bytes", len(text))
		}
	}
	log := a.places["log of the nodes"]
	log = log[:min(len(log), 10_000)]
	for _, c := range a.canaries {
		for form, text := range c.forms {
			if strings.HasPrefix(form, "as it is") || strings.HasPrefix(form, "in ") {
				if found := search([]canary{c}, log+"oops "+text+"\n"+log); len(found) == 0 {
					a.t.Errorf("%s, leaked %s, is not found", c.name, form)
				}
			}
		}
	}
}
