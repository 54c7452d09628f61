package rest

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/wsconn/client/clienttest"
)

// Epochs and Lineage read all pages, and not for ever.
func TestNumberedPages(t *testing.T) {
	var seen []string
	url := clienttest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.URL.RequestURI())
		after, _ := strconv.Atoi(r.URL.Query().Get("after"))
		switch key := strings.Split(r.URL.Path, "/")[3]; {
		case key == "endless" || after < 7:
			_, _ = fmt.Fprintf(w, `{"items":[{"epoch":%d,"certificate":"c"}],"next":"%d"}`, after+7, after+7)
		case key == "stuck":
			_, _ = fmt.Fprintf(w, `{"items":[{"epoch":8}],"next":"7"}`)
		default:
			_, _ = fmt.Fprintf(w, `{"items":[{"epoch":9,"certificate":"d"}]}`)
		}
	})
	a, ctx := newAPI(t, url), context.Background()
	if list, err := a.Epochs(ctx, "a b"); err != nil || len(list) != 2 || list[0].Epoch != 7 || list[1].Epoch != 9 {
		t.Errorf("epochs %+v, %v", list, err)
	}
	if list, err := a.Lineage(ctx, "k1"); err != nil || len(list) != 2 || list[1].Certificate != "d" {
		t.Errorf("lineage %+v, %v", list, err)
	}
	if list, err := a.Epochs(ctx, "stuck"); err != nil || len(list) != 2 {
		t.Errorf("a page that names itself as the next: %+v, %v", list, err)
	}
	clienttest.Want(t, "requests", seen, []string{
		"/v1/keys/a%20b/epochs?after=0", "/v1/keys/a%20b/epochs?after=7", "/v1/keys/k1/lineage?after=0", "/v1/keys/k1/lineage?after=7",
		"/v1/keys/stuck/epochs?after=0", "/v1/keys/stuck/epochs?after=7",
	})
	if list, err := a.Lineage(ctx, "endless"); err == nil {
		t.Errorf("a list without end: %d items", len(list))
	}
}
