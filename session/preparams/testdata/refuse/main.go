// Command refuse reads pre-parameters from the file it is given, in a program that is
// not a test.
package main

import (
	"fmt"
	"os"

	"github.com/conclave-mpc/conclave/session/preparams"
)

func main() {
	data, err := os.ReadFile(os.Args[1])
	if err != nil {
		panic(err)
	}
	_, err = preparams.Parse(data)
	fmt.Println(err)
}
