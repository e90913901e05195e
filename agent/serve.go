package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/exporter-toolkit/web"
	"github.com/rs/zerolog"

	"github.com/beamprof/beamprof/profiles/text"
	"github.com/beamprof/beamprof/profiles/upload"
)

// server answers scrapers.
type server struct {
	agent    *Agent
	config   HTTP
	listener net.Listener // nil: nobody is answered
	http     *http.Server
	scrapes  chan struct{} // holds one for each profile being taken
	log      zerolog.Logger
}

// headerTimeout bounds how long a request may take to arrive, idleTimeout how
// long a connection is kept without one, lastRequests how long a connection that
// was accepted before a reload has for its first one, lastAnswers how long the
// answers may take that are under way when the agent ends.
const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 5 * time.Minute
	lastRequests  = time.Second
	lastAnswers   = 2 * time.Second
)

// listen takes the address that a configuration names; from the server before,
// which still answers, if that has it. before may be nil.
func (a *Agent) listen(config *Config, before *server) (*server, error) {
	s := &server{agent: a, config: config.HTTP, scrapes: make(chan struct{}, config.HTTP.MaxScrapes)}
	// Anybody can make it complain, so it does not do so often.
	s.log = a.options.Log.Sample(&zerolog.BurstSampler{Burst: 5, Period: time.Minute})
	s.http = &http.Server{
		Handler: s.routes(), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: 64 << 10,
		ErrorLog: log.New(complaints{s.log}, "", 0),
	}
	if config.HTTP.Listen == "" {
		return s, nil
	}
	var err error
	if before != nil && before.listener != nil && before.config.Listen == config.HTTP.Listen {
		s.listener, err = shared(before.listener)
	} else {
		s.listener, err = net.Listen("tcp", config.HTTP.Listen)
	}
	if err != nil {
		return nil, fmt.Errorf("http.listen: %w", err)
	}
	return s, nil
}

// shared returns a listener on the same socket, which stays open until both are closed.
func shared(l net.Listener) (net.Listener, error) {
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return net.FileListener(file)
}

// complaints takes what the HTTP server has to say of its clients.
type complaints struct{ log zerolog.Logger }

func (c complaints) Write(line []byte) (int, error) {
	c.log.Warn().Msg(text.Clean(strings.TrimSpace(string(line))))
	return len(line), nil
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
	scheme := "http"
	if s.config.mode.tls {
		scheme = "https"
	}
	s.agent.options.Log.Info().Msgf("listening on %s://%s", scheme, s.listener.Addr())
	flags := &web.FlagConfig{WebConfigFile: &s.config.WebConfig}
	go func() {
		err := web.Serve(s.listener, s.http, flags, slog.New(zerolog.NewSlogHandler(s.log.Level(zerolog.ErrorLevel))))
		if err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			s.agent.failed <- fmt.Errorf("answering scrapers: %w", err)
		}
	}()
}

// retire leaves new connections to the server that shares the socket, and stops
// answering when those that were accepted before have made their requests.
func (s *server) retire(patience time.Duration) {
	if s.listener == nil {
		return
	}
	s.listener.Close()
	time.Sleep(lastRequests)
	s.stop(patience)
}

// stop stops answering; what is being answered gets so long.
func (s *server) stop(patience time.Duration) {
	if s.listener == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		s.http.Close()
	}
	s.listener.Close()
}
