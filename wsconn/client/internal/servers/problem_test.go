package servers

import (
	"net/http"
	"strings"
	"testing"
)

// FuzzProblem gives the web API's client any answer: it becomes an error.
func FuzzProblem(f *testing.F) {
	f.Add(404, []byte(`{"status":404,"code":"not_found","detail":"no such key"}`))
	f.Add(502, []byte("<html>"))
	f.Add(401, []byte(`{"code":7}`))
	request, err := http.NewRequest(http.MethodGet, "http://user:pass@host/", nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		err := Problem(&http.Response{StatusCode: status, Status: "status", Request: request}, body)
		if err == nil || strings.Contains(err.Error(), "user:pass") {
			t.Errorf("got %v", err)
		}
	})
}
