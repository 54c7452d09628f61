//go:build !unix

package secret

import "io/fs"

func ours(fs.FileInfo) bool { return true }
