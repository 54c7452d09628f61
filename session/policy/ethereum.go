package policy

import (
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/statement"
)

// EthereumRule is the part of a policy's rule for an unsigned Ethereum transaction: a
// legacy one with a chain id (EIP-155) or one of type 2 (EIP-1559). Any other data, and
// a transaction that creates a contract, is declined.
type EthereumRule struct {
	// ChainIDs are the allowed chains.
	ChainIDs []uint64 `json:"chain_ids"`
	// To are the allowed recipient addresses, including contracts.
	To []address `json:"to"`
	// MaxValueWei and MaxFeeWei bound one transaction's value and its greatest gas
	// cost, decimal.
	MaxValueWei *wei `json:"max_value_wei"`
	MaxFeeWei   *wei `json:"max_fee_wei"`
	// Calls are the first four bytes, 0x hex, of allowed calls, or "*". Without any the
	// transaction must have no data. A call's effect is not checked: the value says
	// nothing about tokens.
	Calls []call `json:"calls"`
}

type address [20]byte

func (a *address) UnmarshalText(text []byte) error {
	canonical, err := pubkey.Secp256k1.ParseAddress(string(text))
	if err != nil {
		return fmt.Errorf("address %q: %w", text, err)
	}
	raw, err := pubkey.Decode(canonical)
	copy(a[:], raw)
	return err
}

// wei is an amount. Its number is a field, because an embedded big.Int would decode
// JSON with its own method.
type wei struct{ n big.Int }

func (w *wei) UnmarshalText(text []byte) error {
	if _, ok := w.n.SetString(string(text), 10); !ok || w.n.Sign() < 0 || w.n.BitLen() > 256 {
		return fmt.Errorf("%q is not an amount in wei", text)
	}
	return nil
}

// call is a selector, or the wildcard.
type call string

func (c *call) UnmarshalText(text []byte) error {
	*c = call(text)
	if raw, err := pubkey.Decode(string(text)); *c != wildcard && (err != nil || len(raw) != 4 || pubkey.Encode(raw) != string(text)) {
		return fmt.Errorf("call %q is not 0x and four bytes in lower-case hex", text)
	}
	return nil
}

func (e *EthereumRule) check() error {
	if len(e.ChainIDs) == 0 || len(e.To) == 0 || e.MaxValueWei == nil || e.MaxFeeWei == nil {
		return errors.New("ethereum must have chain_ids, to, max_value_wei and max_fee_wei")
	}
	return nil
}

// refuses returns why a signing is not allowed, empty if it is allowed.
func (e *EthereumRule) refuses(r statement.Request) string {
	if r.Curve != pubkey.Secp256k1 || pubkey.Hash(r.Hash) != pubkey.HashKeccak256 || len(r.Data) < 2 || r.Data[:2] != "0x" {
		return "it is not hex data with keccak256 on secp256k1, as a transaction is"
	}
	raw, err := pubkey.Decode(r.Data)
	if err != nil {
		return "the data cannot be read"
	}
	tx, err := parseTransaction(raw)
	if err != nil {
		return err.Error()
	}
	switch {
	case !tx.chainID.IsUint64() || !slices.Contains(e.ChainIDs, tx.chainID.Uint64()):
		return "chain " + tx.chainID.String() + " is not one of the chain_ids"
	case !slices.Contains(e.To, tx.to):
		return "its recipient is not one of the addresses"
	case tx.value.Cmp(&e.MaxValueWei.n) > 0:
		return "its value is above the limit"
	case tx.maxFee().Cmp(&e.MaxFeeWei.n) > 0:
		return "its fee may be above the limit"
	case !e.calls(tx.data):
		return "it makes a call that is not one of the calls"
	}
	return ""
}

func (e *EthereumRule) calls(data []byte) bool {
	switch {
	case len(data) == 0 || slices.Contains(e.Calls, wildcard):
		return true
	case len(data) < 4:
		return false
	}
	return slices.Contains(e.Calls, call(pubkey.Encode(data[:4])))
}

// transaction holds the fields of an unsigned transaction.
type transaction struct {
	chainID, gasPrice, gasLimit, value *big.Int // the price is the highest possible
	to                                 address
	data                               []byte
}

func (t *transaction) maxFee() *big.Int { return new(big.Int).Mul(t.gasPrice, t.gasLimit) }

// typed1559 is the first byte of a transaction of type 2.
const typed1559 = 0x02

// parseTransaction reads the bytes whose keccak256 is signed.
func parseTransaction(raw []byte) (*transaction, error) {
	typed := len(raw) > 0 && raw[0] == typed1559
	if typed {
		raw = raw[1:]
	}
	item, err := pubkey.ParseRLP(raw)
	if err != nil {
		return nil, fmt.Errorf("it is no transaction: %w", err)
	}
	f := fields{list: item.List}
	if !item.IsList || len(f.list) != 9 {
		return nil, errors.New("it is not a transaction of a known kind: nine fields are expected, a legacy one with its chain id")
	}
	t := new(transaction)
	if typed {
		// chain id, nonce, max priority fee, max fee, gas limit, to, value, data, access list
		t.chainID = f.number(0)
		f.number(1)
		f.number(2)
		t.gasPrice, t.gasLimit = f.number(3), f.number(4)
		t.to, t.value, t.data = f.address(5), f.number(6), f.bytes(7)
		f.accessList(8)
	} else {
		// nonce, gas price, gas limit, to, value, data, chain id, 0, 0
		f.number(0)
		t.gasPrice, t.gasLimit = f.number(1), f.number(2)
		t.to, t.value, t.data = f.address(3), f.number(4), f.bytes(5)
		t.chainID = f.number(6)
		if f.number(7).Sign() != 0 || f.number(8).Sign() != 0 {
			f.fail("it is signed already")
		}
	}
	return t, f.err
}

// fields reads the fields of a transaction and keeps the first error.
type fields struct {
	list []pubkey.RLP
	err  error
}

func (f *fields) fail(text string) {
	if f.err == nil {
		f.err = errors.New("it is not a transaction that can be signed: " + text)
	}
}

func (f *fields) bytes(i int) []byte {
	if f.list[i].IsList {
		f.fail("a field is a list")
	}
	return f.list[i].Bytes
}

func (f *fields) number(i int) *big.Int {
	b := f.bytes(i)
	if len(b) > 32 || len(b) > 0 && b[0] == 0 {
		f.fail("a number is not in its shortest form")
		b = nil
	}
	return new(big.Int).SetBytes(b)
}

func (f *fields) address(i int) (a address) {
	if b := f.bytes(i); copy(a[:], b) != len(a) || len(b) != len(a) {
		f.fail("its recipient is not an address; contract creation is not supported")
	}
	return a
}

// accessList requires pairs of an address and 32-byte keys.
func (f *fields) accessList(i int) {
	ok := f.list[i].IsList
	for _, entry := range f.list[i].List {
		ok = ok && len(entry.List) == 2 && len(entry.List[0].Bytes) == len(address{}) && entry.List[1].IsList
		if !ok {
			break
		}
		for _, key := range entry.List[1].List {
			ok = ok && len(key.Bytes) == 32
		}
	}
	if !ok {
		f.fail("its access list is malformed")
	}
}
