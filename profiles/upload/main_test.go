package upload

import (
	"context"
	"os"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	firstWait, longWait = 2*time.Millisecond, 20*time.Millisecond
	if url := os.Getenv(childVariable); url != "" {
		addForever(url, os.Args[1])
		return
	}
	os.Exit(m.Run())
}

// run runs a pipeline until the test ends.
func run(t testing.TB, p *Pipeline) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
}
