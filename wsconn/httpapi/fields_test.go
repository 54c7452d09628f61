package httpapi

import (
	"fmt"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// TestBodiesNameTheField puts values of the wrong type into each field of the body
// of every operation: the problem names the field, and omits the value.
func TestBodiesNameTheField(t *testing.T) {
	t.Parallel()
	const word = "hunter2-0xdeadbeef"
	refused := func(op operation, body, want string) {
		t.Helper()
		err := decode(httptest.NewRequest(op.method, op.path, strings.NewReader(body)), reflect.New(reflect.TypeOf(op.body)).Interface())
		if e := wire.AsError(err); err == nil || e.Code != wire.CodeBadRequest || !strings.HasPrefix(e.Message, want) || strings.Contains(e.Message, word) {
			t.Errorf("%s %s: got %v, want %q", op.id, body, err, want)
		}
	}
	bodies := 0
	for _, op := range new(api).operations() {
		if op.body == nil {
			continue
		}
		bodies++
		for _, f := range reflect.VisibleFields(reflect.TypeOf(op.body)) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			wrong := map[string]string{"": `{"` + word + `":1}`}
			if f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct {
				wrong["[1]"] = `[{},["` + word + `"]]`
			} else if f.Type.Kind() == reflect.Slice {
				wrong["[1]"] = `["",["` + word + `"]]`
			} else if f.Type.Kind() != reflect.String {
				refused(op, fmt.Sprintf(`{%q:%q}`, name, word), "request body: field "+name+" must be ")
			}
			for at, value := range wrong {
				refused(op, fmt.Sprintf(`{%q:%s}`, name, value), "request body: field "+name+at+" must be ")
			}
		}
		for _, body := range []string{`["` + word + `"]`, `"` + word + `"`, `{"a":` + word + `}`, ``} {
			refused(op, body, "request body: ")
		}
	}
	if bodies < 8 {
		t.Errorf("only %d operations have a body", bodies)
	}
}
