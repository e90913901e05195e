package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/exporter-toolkit/web"

	"github.com/beamprof/beamprof/profiles/upload"
)

// server answers scrapers.
type server struct {
	agent    *Agent
	config   HTTP
	listener net.Listener // nil: nobody is answered
	http     *http.Server
	scrapes  chan struct{} // holds one for each profile being taken
}

// headerTimeout bounds how long a request may take to arrive, lastAnswers how
// long the answers may take that are under way when the server stops.
const (
	headerTimeout = 10 * time.Second
	lastAnswers   = 2 * time.Second
)

// listen takes the address that a configuration names.
func (a *Agent) listen(config *Config) (*server, error) {
	s := &server{agent: a, config: config.HTTP, scrapes: make(chan struct{}, config.HTTP.MaxScrapes)}
	s.http = &http.Server{Handler: s.routes(), ReadHeaderTimeout: headerTimeout, MaxHeaderBytes: 64 << 10}
	if config.HTTP.Listen == "" {
		return s, nil
	}
	var err error
	if s.listener, err = net.Listen("tcp", config.HTTP.Listen); err != nil {
		return nil, fmt.Errorf("http.listen: %w", err)
	}
	return s, nil
}

func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/profile", s.scrape(upload.KindCPU))
	mux.HandleFunc("GET /debug/pprof/distribution", s.scrape(upload.KindDistribution))
	mux.HandleFunc("GET /debug/pprof/connections", s.scrape(upload.KindConnections))
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.agent.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.agent.Healthy()) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.agent.ready()) })
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, paths) })
	return mux
}

const paths = `beamprof agent
/debug/pprof/profile?seconds=N       CPU profile; node=NAME or pid=N for one of several VMs
/debug/pprof/distribution?seconds=N  messages to and from other nodes
/debug/pprof/connections?seconds=N   connections to the VM's listeners
/metrics                             for Prometheus
/healthz, /readyz                    200 if all is well, and if VMs were looked for
`

func answer(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, err)
		return
	}
	fmt.Fprintln(w, "ok")
}

// ready returns why nothing can be scraped yet.
func (a *Agent) ready() error {
	e := a.current()
	select {
	case <-e.first:
		return e.healthy()
	default:
		return errors.New("VMs are being looked for")
	}
}

// start answers until stop.
func (s *server) start() {
	if s.listener == nil {
		return
	}
	s.agent.options.Log.Info().Msgf("listening on http://%s", s.listener.Addr())
	flags := &web.FlagConfig{WebConfigFile: &s.config.WebConfig}
	go func() {
		err := web.Serve(s.listener, s.http, flags, slog.New(slog.DiscardHandler))
		if err != nil && !errors.Is(err, http.ErrServerClosed) {
			s.agent.failed <- fmt.Errorf("answering scrapers: %w", err)
		}
	}()
}

// stop stops answering; what is being answered gets a moment.
func (s *server) stop() {
	if s.listener == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), lastAnswers)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		s.http.Close()
	}
	s.listener.Close()
}
