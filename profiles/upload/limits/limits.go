// Package limits makes profiles small and plain enough for the servers that
// take them.
package limits

// Report says what a profile lost.
type Report struct {
	Folded uint64 // samples whose stack or labels became coarser, so that there are not too many different ones
	Cut    uint64 // samples whose stack was too deep and lost frames of its middle
}
