package pubkey

import "errors"

// RLP is a value in Ethereum's Recursive Length Prefix encoding: a byte string or
// a list.
type RLP struct {
	IsList bool
	Bytes  []byte // of the input
	List   []RLP
}

// maxRLPDepth is more than a transaction's access list needs.
const maxRLPDepth = 5

var (
	errRLPShort     = errors.New("it ends too early")
	errRLPLong      = errors.New("something follows its end")
	errRLPDeep      = errors.New("it is too deep")
	errRLPCanonical = errors.New("it is not in its shortest form")
)

// ParseRLP reads all of data as one item. It accepts only the shortest encoding of an
// item; otherwise the error says what is wrong.
func ParseRLP(data []byte) (RLP, error) {
	item, rest, err := nextRLP(data, maxRLPDepth)
	if err == nil && len(rest) > 0 {
		err = errRLPLong
	}
	return item, err
}

// nextRLP reads the first item of data.
func nextRLP(data []byte, depth int) (item RLP, rest []byte, err error) {
	if len(data) == 0 {
		return item, nil, errRLPShort
	}
	first := data[0]
	if first < 0x80 {
		return RLP{Bytes: data[:1]}, data[1:], nil
	}
	body, rest, err := bodyRLP(data)
	if err != nil {
		return item, nil, err
	}
	if first < 0xc0 {
		if len(body) == 1 && body[0] < 0x80 {
			return item, nil, errRLPCanonical
		}
		return RLP{Bytes: body}, rest, nil
	}
	if depth == 0 {
		return item, nil, errRLPDeep
	}
	item.IsList = true
	for len(body) > 0 {
		var child RLP
		if child, body, err = nextRLP(body, depth-1); err != nil {
			return RLP{}, nil, err
		}
		item.List = append(item.List, child)
	}
	return item, rest, nil
}

// bodyRLP cuts data after the item that its first byte, 0x80 or more, announces.
func bodyRLP(data []byte) (body, rest []byte, err error) {
	size, data := int(data[0]&0x3f), data[1:] // 0 to 55, or 55 and the size's own
	if size > 55 {
		n := size - 55
		if len(data) < n {
			return nil, nil, errRLPShort
		}
		if data[0] == 0 {
			return nil, nil, errRLPCanonical
		}
		size = 0
		for _, b := range data[:n] {
			if size > len(data) { // also prevents overflow
				return nil, nil, errRLPShort
			}
			size = size<<8 | int(b)
		}
		if data = data[n:]; size <= 55 {
			return nil, nil, errRLPCanonical
		}
	}
	if size > len(data) {
		return nil, nil, errRLPShort
	}
	return data[:size], data[size:], nil
}
