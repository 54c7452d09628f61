package session

import (
	"go/ast"
	"go/token"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// TestKinds: every kind has a complete set of rules, which it shares with no other
// kind.
func TestKinds(t *testing.T) {
	t.Parallel()
	seen := map[string]Kind{}
	for kind, r := range kinds {
		v := reflect.ValueOf(*r)
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; v.Field(i).Kind() == reflect.Func && v.Field(i).IsNil() {
				t.Errorf("%s has no rule %s", kind, name)
			}
		}
		for _, typ := range []string{string(kind.Request()), string(kind.Response())} {
			if other, ok := seen[typ]; ok || typ == "" {
				t.Errorf("%s: the message %q belongs to %s already", kind, typ, other)
			}
			seen[typ] = kind
		}
	}
	if len(kinds) != len(Kinds()) {
		t.Errorf("got %v, want the %d kinds", Kinds(), len(kinds))
	}
}

// TestUnknownKind: a kind stored by a later version is refused and breaks nothing.
func TestUnknownKind(t *testing.T) {
	t.Parallel()
	s := newSigning(2, 3, "alice", "bob", "carol")
	s.Kind, s.Phase = "presign", Running
	if next, out, err := Step(s, Tick{}, began); err == nil || out != nil || !next.Same(s) {
		t.Errorf("got phase %s, %d messages, %v; want it refused", next.Phase, len(out), err)
	}
	if s.Kind.Known() || s.Kind.MakesKey() || s.Kind.OpensOnKey() || s.AllReported() || s.Attestations() != nil || Outcome(s) != nil {
		t.Error("something is known of an unknown kind")
	}
	if s.KeptBytes() <= 0 || s.NextDue(began).IsZero() || s.Info().Kind != "presign" {
		t.Errorf("got %d bytes, due %s, %+v", s.KeptBytes(), s.NextDue(began), s.Info())
	}
}

// comparedElsewhere lists where a kind may be compared outside its own file, and why.
var comparedElsewhere = map[string]string{}

// TestKindsInOnePlace: the differences between kinds are in their rules, so that a new
// kind is a new file and a row in kinds. No other code compares with a kind: not with
// ==, and not in a switch.
func TestKindsInOnePlace(t *testing.T) {
	t.Parallel()
	own := map[string]string{"Keygen": "keygen.go", `"keygen"`: "keygen.go", "Sign": "sign.go", `"sign"`: "sign.go", "Reshare": "reshare.go", `"reshare"`: "reshare.go"}
	for _, dir := range []string{".", "service"} {
		set, files := sources(t, dir)
		for name, file := range files {
			check := func(e ast.Expr) {
				word := ""
				switch e := e.(type) {
				case *ast.Ident:
					word = e.Name
				case *ast.BasicLit:
					word = e.Value
				case *ast.SelectorExpr:
					if pkg, ok := e.X.(*ast.Ident); ok && pkg.Name == "session" {
						word = e.Sel.Name
					}
				}
				where := filepath.ToSlash(name)
				if own[word] == "" || own[word] == where || comparedElsewhere[where+" "+word] != "" {
					return
				}
				t.Errorf("%s: compares with %s; see kinds", set.Position(e.Pos()), strings.Trim(word, `"`))
			}
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.BinaryExpr:
					if n.Op == token.EQL || n.Op == token.NEQ {
						check(n.X)
						check(n.Y)
					}
				case *ast.CaseClause:
					for _, e := range n.List {
						check(e)
					}
				}
				return true
			})
		}
	}
}
