package pubkey

// transactionForms are the fields of Ethereum's transactions, by the type that
// begins them (EIP-2718); 0 stands for legacy ones, which begin with their list.
// A signature adds three numbers, and so does EIP-155 to a legacy one that is to be
// signed.
//
//	n  a number of up to 32 bytes
//	t  the recipient, 20 bytes, or empty for a new contract
//	b  bytes
//	l  a list
var transactionForms = map[byte]string{
	0: "nnntnb",      // nonce, gas price, gas, to, value, data
	1: "nnnntnbl",    // EIP-2930: chain, nonce, gas price, gas, to, value, data, access list
	2: "nnnnntnbl",   // EIP-1559: chain, nonce, priority fee, fee, gas, to, value, data, access list
	3: "nnnnntnblnl", // EIP-4844: as 2, and blob fee, blob hashes
	4: "nnnnntnbll",  // EIP-7702: as 2, and authorizations
}

// IsTransaction reports whether raw has the form of an Ethereum transaction, signed or
// not, of any type in use. It checks only the form: a random digest has it about once
// in some million times.
func IsTransaction(raw []byte) bool {
	form := transactionForms[0]
	if len(raw) > 0 && raw[0] < 0xc0 {
		if form = transactionForms[raw[0]]; raw[0] == 0 || form == "" {
			return false
		}
		raw = raw[1:]
	}
	item, err := ParseRLP(raw)
	if err != nil || !item.IsList {
		return false
	}
	switch len(item.List) {
	case len(form):
	case len(form) + 3:
		form += "nnn"
	default:
		return false
	}
	for i, field := range item.List {
		if !hasForm(field, form[i]) {
			return false
		}
	}
	return true
}

func hasForm(field RLP, form byte) bool {
	switch form {
	case 'l':
		return field.IsList
	case 'n':
		return !field.IsList && len(field.Bytes) <= 32
	case 't':
		return !field.IsList && (len(field.Bytes) == 0 || len(field.Bytes) == 20)
	}
	return !field.IsList
}

// HexIsTransaction reports whether data is an Ethereum transaction in 0x and hex.
func HexIsTransaction(data string) bool {
	raw, err := Decode(data)
	return err == nil && IsTransaction(raw)
}
