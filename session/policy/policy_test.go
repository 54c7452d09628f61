package policy

import (
	"encoding/hex"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/statement"
)

// unsigned155 is the example of EIP-155: 1 ether to 0x3535… on chain 1, at 20 gwei
// for 21000 gas.
const unsigned155 = "0xec098504a817c800825208943535353535353535353535353535353535353535880de0b6b3a764000080018080"

const goodPolicy = `{"version": 1, "rules": [
	{"name": "keys", "coordinators": ["alice"], "kinds": ["keygen"], "keys": ["*"], "participants": ["bob", "carol", "dave"]},
	{"name": "words", "coordinators": ["alice", "erin"], "kinds": ["sign"], "keys": ["k1", "k2"], "hashes": ["eip191"], "text": ["pay [0-9]+ to bob|hello"]},
	{"name": "anything", "coordinators": ["frank"], "kinds": ["sign"], "keys": ["*"], "hashes": ["none"], "any_data": true},
	{"name": "ether", "coordinators": ["gina"], "kinds": ["sign"], "keys": ["k1"], "ethereum": {
		"chain_ids": [1], "to": ["0x3535353535353535353535353535353535353535"],
		"max_value_wei": "1000000000000000000", "max_fee_wei": "420000000000000", "calls": ["0xa9059cbb"]}}
]}`

// asks returns a request as shown to a participant.
func asks(who, kind, data, hash string) statement.Request {
	return statement.Request{
		Kind: kind, SessionID: "s", KeyID: "k1", Coordinator: who, Curve: pubkey.Secp256k1, Participants: []string{"bob", "carol"},
		Data: data, Hash: hash,
	}
}

func TestPolicy(t *testing.T) {
	p, err := Parse([]byte(goodPolicy), nil)
	if err != nil {
		t.Fatal(err)
	}
	with := func(inv statement.Request, change func(*statement.Request)) statement.Request {
		change(&inv)
		return inv
	}
	text := asks("alice", sign, "pay 12 to bob", "eip191")
	ether := asks("gina", sign, unsigned155, "keccak256")
	for name, tc := range map[string]struct {
		inv  statement.Request
		want string // of the refusal
	}{
		"text":                   {text, ""},
		"other text":             {asks("erin", sign, "hello", "eip191"), ""},
		"before the text":        {asks("alice", sign, "do pay 12 to bob", "eip191"), "matches no pattern"},
		"after the text":         {asks("alice", sign, "pay 12 to bobby", "eip191"), "matches no pattern"},
		"after a line":           {asks("alice", sign, "pay 12 to bob\n", "eip191"), "matches no pattern"},
		"on a line of its own":   {asks("alice", sign, "x\nhello\ny", "eip191"), "matches no pattern"},
		"hex for text":           {asks("alice", sign, "0x68656c6c6f", "eip191"), "not text"},
		"another hash":           {asks("alice", sign, "hello", "sha256"), "hash sha256"},
		"another coordinator":    {asks("mallory", sign, "hello", "eip191"), "no rule"},
		"another key":            {with(text, func(i *statement.Request) { i.KeyID = "k3" }), "no rule"},
		"another kind":           {asks("erin", keygen, "", ""), "no rule"},
		"keygen":                 {asks("alice", keygen, "", ""), ""},
		"keygen with a stranger": {with(asks("alice", keygen, "", ""), func(i *statement.Request) { i.Participants = []string{"bob", "eve"} }), "eve is not"},
		"any data":               {asks("frank", sign, "0x00", "none"), ""},
		"any data, another hash": {asks("frank", sign, "x", "eip191"), "hash eip191"},
		"a transaction":          {ether, ""},
		"a transaction, blindly": {with(ether, func(i *statement.Request) { i.Hash = "none" }), "keccak256"},
		"a transaction, as text": {with(ether, func(i *statement.Request) { i.Data = i.Data[2:] }), "hex data"},
		"a transaction, on ed":   {with(ether, func(i *statement.Request) { i.Curve = pubkey.Ed25519 }), "secp256k1"},
		"another chain":          {with(ether, func(i *statement.Request) { i.Data = strings.Replace(i.Data, "80018080", "80058080", 1) }), "chain 5"},
		"another recipient":      {with(ether, func(i *statement.Request) { i.Data = strings.Replace(i.Data, "9435", "9436", 1) }), "recipient"},
		"a larger value": {with(ether, func(i *statement.Request) {
			i.Data = strings.Replace(i.Data, "0de0b6b3a7640000", "0de0b6b3a7640001", 1)
		}), "value"},
		"a larger fee":            {with(ether, func(i *statement.Request) { i.Data = strings.Replace(i.Data, "825208", "825209", 1) }), "fee"},
		"a call":                  {with(ether, func(i *statement.Request) { i.Data = transfer("a9059cbb00") }), ""},
		"another call":            {with(ether, func(i *statement.Request) { i.Data = transfer("a9059cbc00") }), "call"},
		"a call of three bytes":   {with(ether, func(i *statement.Request) { i.Data = transfer("a9059c") }), "call"},
		"no transaction":          {with(ether, func(i *statement.Request) { i.Data = "0xc0" }), "not a transaction"},
		"more than a transaction": {with(ether, func(i *statement.Request) { i.Data += "00" }), "follows"},
	} {
		ok, reason, err := p.Decide(tc.inv.SessionID, tc.inv)
		if err != nil || ok != (tc.want == "") || !strings.Contains(reason, tc.want) {
			t.Errorf("%s: got %t, %q, %v, want %q", name, ok, reason, err, tc.want)
		}
	}
	none, err := Parse([]byte(`{"version": 1, "rules": []}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	if ok, _, _ := none.Decide(text.SessionID, text); ok {
		t.Error("a policy without rules allows something")
	}
}

// TestPolicyIsStrict spoils a valid policy in one place each.
func TestPolicyIsStrict(t *testing.T) {
	for name, tc := range map[string]struct{ old, new, want string }{
		"unknown field":        {`"version": 1`, `"version": 1, "allow": true`, `unknown field "allow"`},
		"unknown in a rule":    {`"any_data": true`, `"any_data": true, "key": "k"`, `unknown field "key"`},
		"unknown in ethereum":  {`"chain_ids": [1]`, `"chain_ids": [1], "max_value": "1"`, `unknown field`},
		"a field twice":        {`"any_data": true`, `"any_data": true, "any_data": true`, "twice"},
		"another case":         {`"any_data": true`, `"Any_Data": true`, "lower case"},
		"null":                 {`["pay [0-9]+ to bob|hello"]`, `[null]`, "null"},
		"version":              {`"version": 1`, `"version": 2`, "version must be 1"},
		"no version":           {`"version": 1, `, ``, "version must be 1"},
		"no name":              {`"name": "words", `, ``, "must have a name"},
		"a name twice":         {`"name": "words"`, `"name": "keys"`, "two rules"},
		"no coordinators":      {`"coordinators": ["frank"], `, ``, "must be listed"},
		"any coordinator":      {`["frank"]`, `["*"]`, "not a user id"},
		"no kinds":             {`"kinds": ["keygen"], `, ``, "must be listed"},
		"another kind":         {`["keygen"]`, `["export"]`, "keygen, sign and reshare"},
		"no keys":              {`"keys": ["k1", "k2"], `, ``, "must be listed"},
		"a bad key":            {`"k2"`, `"k 2"`, "not an id"},
		"no participants":      {`, "participants": ["bob", "carol", "dave"]`, ``, "lists the participants"},
		"no content":           {`, "any_data": true`, ``, "one of text, ethereum and any_data"},
		"two contents":         {`"any_data": true`, `"any_data": true, "text": ["x"]`, "one of text, ethereum and any_data"},
		"content of a keygen":  {`"kinds": ["keygen"]`, `"any_data": true, "kinds": ["keygen"]`, "are for signings"},
		"no hashes":            {`"hashes": ["none"], `, ``, "lists the hashes"},
		"another hash":         {`["none"]`, `["md5"]`, "hash must be"},
		"hashes with ethereum": {`"ethereum": {`, `"hashes": ["keccak256"], "ethereum": {`, "mean nothing"},
		"a broken pattern":     {`pay [0-9]+`, `pay [0-9`, "missing closing"},
		"a group left open":    {`"pay [0-9]+ to bob|hello"`, `"x)|(.*"`, "unexpected )"},
		"no chains":            {`"chain_ids": [1], `, ``, "must have chain_ids"},
		"no recipients":        {`"to": ["0x3535353535353535353535353535353535353535"],`, ``, "must have chain_ids, to"},
		"a bad address":        {`0x3535353535353535353535353535353535353535`, `0x35`, "address"},
		"no value":             {`"max_value_wei": "1000000000000000000", `, ``, "max_value_wei"},
		"a value below zero":   {`"1000000000000000000"`, `"-1"`, "not an amount"},
		"a value in hex":       {`"1000000000000000000"`, `"0x1"`, "not an amount"},
		"a value as a number":  {`"1000000000000000000"`, `1`, "wei"},
		"no fee":               {`"max_fee_wei": "420000000000000"`, `"max_fee_wei": ""`, "not an amount"},
		"a bad call":           {`0xa9059cbb`, `0xA9059CBB`, "four bytes"},
		"rate of none":         {`"any_data": true`, `"any_data": true, "rate": {"count": 0, "per": "1h"}`, "count from 1"},
		"rate without a time":  {`"any_data": true`, `"any_data": true, "rate": {"count": 1}`, "per a duration"},
		"rate of a bad time":   {`"any_data": true`, `"any_data": true, "rate": {"count": 1, "per": "1 day"}`, "1 day"},
		"something after":      {"]}}\n]}", "]}}\n]} {}", "follows"},
		"an end missing":       {"]}}\n]}", "]}}\n]", "EOF"},
		"too deep":             {`["none"]`, strings.Repeat("[", 20) + strings.Repeat("]", 20), "too deep"},
	} {
		spoilt := strings.Replace(goodPolicy, tc.old, tc.new, 1)
		if spoilt == goodPolicy {
			t.Fatalf("%s: changes nothing", name)
		}
		if _, err := Parse([]byte(spoilt), nil); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
}

func TestRate(t *testing.T) {
	var saved []byte
	save := func(text []byte) error { saved = text; return nil }
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		session string
		after   time.Duration
		ok      bool
	}{
		{"s1", 0, true}, {"s2", time.Minute, true}, {"s3", 2 * time.Minute, false}, {"s1", 2 * time.Minute, true},
		{"s3", -time.Hour, false}, // a clock was set back
		{"s3", time.Hour, true}, {"s4", time.Hour, false}, {"s4", time.Hour + time.Minute, true},
	} {
		l, err := NewRateLog(saved, save) // a restart each time
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := l.Take("r", tc.session, 2, time.Hour, at.Add(tc.after)); ok != tc.ok || err != nil {
			t.Errorf("%s after %s: got %t, %v", tc.session, tc.after, ok, err)
		}
		if ok, err := l.Take("other", tc.session, 100, time.Hour, at.Add(tc.after)); !ok || err != nil {
			t.Errorf("another rule: got %t, %v", ok, err)
		}
	}
	// A request that cannot be counted is not allowed.
	l, err := NewRateLog(nil, func([]byte) error { return errors.New("the disk is full") })
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := l.Take("r", "s", 1, time.Hour, at); ok || err == nil {
		t.Errorf("got %t, %v", ok, err)
	}
	limited := strings.Replace(goodPolicy, `"any_data": true`, `"any_data": true, "rate": {"count": 1, "per": "1h"}`, 1)
	p, err := Parse([]byte(limited), nil)
	if err != nil {
		t.Fatal(err)
	}
	inv := asks("frank", sign, "0x00", "none")
	if ok, reason, err := p.Decide(inv.SessionID, inv); !ok || err != nil {
		t.Errorf("the first: %s, %v", reason, err)
	}
	inv.SessionID = "another"
	if ok, reason, err := p.Decide(inv.SessionID, inv); ok || err != nil || !strings.Contains(reason, "1 in 1h0m0s") {
		t.Errorf("the second: %t, %s, %v", ok, reason, err)
	}
}

// rlp encodes byte strings and lists.
func rlp(v any) []byte {
	head := func(short, long byte, body []byte) []byte {
		if len(body) <= 55 {
			return append([]byte{short + byte(len(body))}, body...)
		}
		size := big.NewInt(int64(len(body))).Bytes()
		return append(append([]byte{long + byte(len(size))}, size...), body...)
	}
	switch v := v.(type) {
	case int:
		return rlp(big.NewInt(int64(v)).Bytes())
	case []byte:
		if len(v) == 1 && v[0] < 0x80 {
			return v
		}
		return head(0x80, 0xb7, v)
	case []any:
		var body []byte
		for _, item := range v {
			body = append(body, rlp(item)...)
		}
		return head(0xc0, 0xf7, body)
	}
	panic("not in RLP")
}

func unhex(text string) []byte {
	raw, err := hex.DecodeString(text)
	if err != nil {
		panic(err)
	}
	return raw
}

// typed is a transaction of type 2 like unsigned155, with some fields changed.
func typed(change func(fields []any)) []byte {
	list := []any{1, 7, 1_000_000_000, 20_000_000_000, 21000, unhex(strings.Repeat("35", 20)), 1_000_000_000_000_000_000, []byte{}, []any{}}
	if change != nil {
		change(list)
	}
	return append([]byte{2}, rlp(list)...)
}

// transfer is such a transaction with data.
func transfer(data string) string {
	return pubkey.Encode(typed(func(f []any) { f[7] = unhex(data) }))
}

func TestTransactions(t *testing.T) {
	list := []any{[]any{unhex(strings.Repeat("11", 20)), []any{unhex(strings.Repeat("22", 32))}}}
	for name, raw := range map[string][]byte{
		"legacy": unhex(unsigned155[2:]), "type 2": typed(nil), "with an access list": typed(func(f []any) { f[8] = list }),
	} {
		tx, err := parseTransaction(raw)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if tx.chainID.Int64() != 1 || tx.value.String() != "1000000000000000000" || tx.maxFee().String() != "420000000000000" ||
			hex.EncodeToString(tx.to[:]) != strings.Repeat("35", 20) || len(tx.data) != 0 {
			t.Errorf("%s: read as %+v", name, tx)
		}
	}
	for name, tc := range map[string]struct {
		raw  []byte
		want string
	}{
		"nothing":               {nil, "ends too early"},
		"type 1":                {append([]byte{1}, typed(nil)[1:]...), "follows"},
		"no chain":              {rlp([]any{9, 20, 21000, unhex(strings.Repeat("35", 20)), 1, []byte{}}), "nine fields"},
		"ten fields":            {append([]byte{2}, rlp([]any{1, 1, 1, 1, 1, 1, 1, 1, 1, 1})...), "nine fields"},
		"signed":                {rlp([]any{9, 20, 21000, unhex(strings.Repeat("35", 20)), 1, []byte{}, 37, 5, 5}), "signed already"},
		"makes a contract":      {typed(func(f []any) { f[5] = []byte{} }), "contract creation is not supported"},
		"a long recipient":      {typed(func(f []any) { f[5] = unhex(strings.Repeat("35", 21)) }), "contract creation is not supported"},
		"a list as recipient":   {typed(func(f []any) { f[5] = []any{} }), "a list"},
		"a list as a number":    {typed(func(f []any) { f[6] = []any{} }), "a list"},
		"a number with a zero":  {typed(func(f []any) { f[6] = []byte{0, 1} }), "shortest form"},
		"a number too large":    {typed(func(f []any) { f[3] = make([]byte, 33) }), "shortest form"},
		"no access list":        {typed(func(f []any) { f[8] = []byte{} }), "access list"},
		"an access list of one": {typed(func(f []any) { f[8] = []any{[]any{unhex(strings.Repeat("11", 20))}} }), "access list"},
		"a short access key": {typed(func(f []any) {
			f[8] = []any{[]any{unhex(strings.Repeat("11", 20)), []any{[]byte{1}}}}
		}), "access list"},
		"a wrapped byte":      {append([]byte{2}, 0xc2, 0x81, 0x05), "shortest form"},
		"a long short size":   {[]byte{0xf8, 0x01, 0x05}, "shortest form"},
		"a size with a zero":  {append([]byte{0xf9, 0x00, 0x38}, make([]byte, 56)...), "shortest form"},
		"a size beyond":       {[]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, "ends too early"},
		"a child beyond":      {[]byte{0xc2, 0x83, 0x01}, "ends too early"},
		"deeper than a stack": {[]byte{0xc7, 0xc6, 0xc5, 0xc4, 0xc3, 0xc2, 0xc1, 0xc0}, "too deep"},
	} {
		if _, err := parseTransaction(tc.raw); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
}

// FuzzRLP: data that parses is the unique encoding of its value.
func FuzzRLP(f *testing.F) {
	f.Add(unhex(unsigned155[2:]))
	f.Add(typed(nil)[1:])
	f.Add([]byte{0xc1, 0xc0})
	f.Add([]byte{0xb8, 0x38})
	f.Fuzz(func(t *testing.T, data []byte) {
		item, err := pubkey.ParseRLP(data)
		if err != nil {
			return
		}
		var plain func(pubkey.RLP) any
		plain = func(i pubkey.RLP) any {
			if !i.IsList {
				return i.Bytes
			}
			list := []any{}
			for _, child := range i.List {
				list = append(list, plain(child))
			}
			return list
		}
		if again := rlp(plain(item)); string(again) != string(data) {
			t.Errorf("%x is read as %x", data, again)
		}
		_, _ = parseTransaction(data)
		_, _ = parseTransaction(append([]byte{2}, data...))
	})
}

// FuzzPolicy: no policy panics.
func FuzzPolicy(f *testing.F) {
	f.Add(goodPolicy, "pay 12 to bob", "eip191")
	f.Add(goodPolicy, unsigned155, "keccak256")
	f.Add(`{"version": 1, "rules": []}`, "", "")
	f.Add(`{"version": 1, "rules": [{"name": "x", "text": [""]}]}`, "x", "none")
	f.Fuzz(func(t *testing.T, text, data, hash string) {
		p, err := Parse([]byte(text), nil)
		if err != nil {
			return
		}
		for _, who := range []string{"alice", "frank", "gina"} {
			inv := asks(who, sign, data, hash)
			_, _, _ = p.Decide(inv.SessionID, inv)
		}
	})
}
