package spell

import (
	"flag"
	"io"
	"testing"
)

func TestNearest(t *testing.T) {
	t.Parallel()
	known := []string{"keygen", "keys", "login", "logout", "participant", "sessions", "sign", "verify", "version"}
	for word, want := range map[string]string{
		"sing": "sign", "sigm": "sign", "keygn": "keygen", "partcipant": "participant", "session": "sessions", "sess": "sessions",
		"frobnicate": "", "ver": "", "x": "", "": "", "loguot": "logout",
	} {
		if got := Nearest(word, known); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
}

func TestFlag(t *testing.T) {
	t.Parallel()
	set := flag.NewFlagSet("", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.Int("threshold", 0, "")
	for arg, want := range map[string]string{"--treshold": "--threshold", "--nonsense": "", "--threshold=x": ""} {
		if got := Flag(set.Parse([]string{arg}), set); got != want {
			t.Errorf("%s: got %q, want %q", arg, got, want)
		}
	}
}

func TestStrangers(t *testing.T) {
	t.Parallel()
	environ := []string{
		"PATH=/bin", "CONCLAVE_TOKN=secret", "CONCLAVE_NONSENSE=1", "CONCLAVE_TOKEN=x", "CONCLAVE_JWT_SECRET=x", "CONCLAVE_JWT_SECERT=x", "CONCLAVE_MORE=1", "CONCLAVE_EMPTY=",
		"CONCLAVE_LISTEN_PORT=8080", "CONCLAVE_NODE_IDD=n1", "CONCLAVE_NODE_2=10.0.0.2:8080", "CONCLAVE_TEST_REDIS=x",
		"CONCLAVE_PORT=tcp://10.0.0.1:8080", "CONCLAVE_SERVICE_HOST=10.0.0.1", "CONCLAVE_REDIS_SERVICE_PORT_REDIS=6379", "CONCLAVE_PORT_8080_TCP_ADDR=10.0.0.1",
	}
	want := []Stranger{
		{"CONCLAVE_JWT_SECERT", "CONCLAVE_JWT_SECRET"}, {"CONCLAVE_LISTEN_PORT", ""}, {"CONCLAVE_NODE_IDD", "CONCLAVE_NODE_ID"},
		{"CONCLAVE_NONSENSE", ""}, {"CONCLAVE_TOKN", "CONCLAVE_TOKEN"},
	}
	got := Strangers(environ, "CONCLAVE_MORE")
	if len(got) != len(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for i, s := range got {
		if s.Name != want[i].Name || want[i].Like != "" && s.Like != want[i].Like {
			t.Errorf("got %v, want %v", s, want[i])
		}
	}
}
