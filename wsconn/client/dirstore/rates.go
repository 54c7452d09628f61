package dirstore

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/conclave-mpc/conclave/session/policy"
	"github.com/conclave-mpc/conclave/wsconn/secret"
)

const maxRatesBytes = 256 << 20 // of the file; a rule with the largest possible count takes 2 MiB

// OpenRates reads the file with a policy's record of approvals. The file is made
// with the first entry.
func OpenRates(path string) (*policy.RateLog, error) {
	text, err := readBounded(path, maxRatesBytes)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read rates: %w", err)
	}
	if err != nil {
		text = nil
	}
	l, err := policy.NewRateLog(text, func(text []byte) error { return secret.WriteFile(path, text) })
	if err != nil {
		return nil, fmt.Errorf("read rates: %s is damaged", path)
	}
	return l, nil
}
