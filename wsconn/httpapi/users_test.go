package httpapi

import (
	"errors"
	"net/http"
	"testing"
)

// TestMadePasswordIsTold: a generated password is returned even if its account
// cannot be read again; without one, that is an error.
func TestMadePasswordIsTold(t *testing.T) {
	t.Parallel()
	away := errors.New("away")
	status, answer, err := withPassword(http.StatusCreated, UserInfo{UserID: "bob"}, "made", away)
	if got, ok := answer.(UserPassword); err != nil || status != http.StatusCreated || !ok || got.OneTimePassword != "made" || got.UserID != "bob" || got.Password != "one_time" {
		t.Errorf("got %d %+v %v, want the password of bob", status, answer, err)
	}
	if _, _, err := withPassword(http.StatusOK, UserInfo{}, "", away); !errors.Is(err, away) {
		t.Errorf("got %v, want %v", err, away)
	}
}
