package rest

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/conclave-mpc/conclave/wsconn/client/clienttest"
)

// TestAnswersHaveOneReading: ambiguous answers of a server are refused.
func TestAnswersHaveOneReading(t *testing.T) {
	for _, answer := range []string{
		`{"key_id":"k","account_addr":"0x1","account_addr":"0x2"}`, `{"key_id":"k","Account_Addr":"0x2"}`, `{"key_id":"\ud800"}`, "{\"key_id\":\"\xff\"}",
	} {
		a := newAPI(t, clienttest.Serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(answer)) }))
		if key, err := a.Key(context.Background(), "k"); !errors.Is(err, ErrNotConclave) {
			t.Errorf("%q: %+v, %v", answer, key, err)
		}
	}
}
