package sinks

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// client posts to one server over HTTP.
type client struct {
	*access
	http *http.Client
}

const (
	maxResponse = 64 << 10
	deadAfter   = 20 * time.Second // without an answer: the connection, not a request
)

func newClient(c Config) (*client, error) {
	a := newAccess(c)
	tls, err := a.tlsConfig()
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: tls, ForceAttemptHTTP2: true,
		MaxIdleConns: 2, IdleConnTimeout: 90 * time.Second,
		HTTP2: &http.HTTP2Config{SendPingTimeout: deadAfter, PingTimeout: deadAfter},
	}
	return &client{access: a, http: &http.Client{
		Transport: transport,
		// Elsewhere the credentials might be shown to another.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func (c *client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// post sends a body once and returns what the server says to it, cut to
// maxResponse. Its error is a *Failure.
func (c *client) post(ctx context.Context, url string, body []byte, headers map[string]string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, &Failure{Reason: ReasonLocal, Err: errors.New("the url is wrong")}
	}
	if request.Header, err = c.headers(); err != nil {
		return nil, err
	}
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, c.failed(ctx, err)
	}
	defer response.Body.Close()
	// A server that has said 200 has the profile, whatever becomes of the rest.
	answer, _ := io.ReadAll(io.LimitReader(response.Body, maxResponse))
	if response.StatusCode/100 == 2 {
		return answer, nil
	}
	return nil, c.status(response.StatusCode, response.Header, string(answer))
}

// failed says why there is no answer.
func (c *client) failed(ctx context.Context, err error) *Failure {
	reason := ReasonNetwork
	var network net.Error
	if errors.As(err, &network) && network.Timeout() || ctx.Err() != nil {
		reason = ReasonTimeout
	}
	var at *net.OpError
	unreached := errors.As(err, &at) && at.Op == "dial"
	var outer *url.Error // quotes the URL, with its query
	if errors.As(err, &outer) {
		err = outer.Err
	}
	return &Failure{Reason: reason, Outage: unreached, Err: errors.New(c.message(err.Error()))}
}

// status says what an answer that is not 2xx means.
func (c *client) status(code int, header http.Header, answer string) *Failure {
	f := &Failure{Err: fmt.Errorf("%d %s: %s", code, http.StatusText(code), c.message(answer))}
	switch {
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusProxyAuthRequired:
		f.Reason, f.Outage = ReasonUnauthorized, true
	case code/100 == 3, code == http.StatusNotFound, code == http.StatusMethodNotAllowed, code == http.StatusNotImplemented:
		f.Reason, f.Outage = ReasonEndpoint, true
	case code == http.StatusRequestTimeout:
		f.Reason = ReasonTimeout
	case code == http.StatusTooManyRequests:
		f.Reason, f.After = ReasonRateLimited, retryAfter(header, time.Now())
	case code/100 == 5:
		f.Reason, f.After = ReasonServer, retryAfter(header, time.Now())
		f.Outage = code == http.StatusServiceUnavailable
	case code == http.StatusRequestEntityTooLarge:
		f.Reason, f.Final = ReasonTooLarge, true
	default:
		f.Reason, f.Final = refusal(answer), true
	}
	return f
}

// refusal tells from a server's words what it has against a profile: codes are
// the same for all of it.
func refusal(answer string) string {
	answer = strings.ToLower(answer)
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(answer, w) {
				return true
			}
		}
		return false
	}
	switch {
	case has("ingestion window", "too old", "too far in the past"):
		return ReasonTooOld
	case has("label names; limit", "label name too long", "label value too long", "sample labels limit"):
		return ReasonLabels
	case has("size limit", "samples count limit", "too large", "larger than max"):
		return ReasonTooLarge
	}
	return ReasonRefused
}

// retryAfter returns how long a server asks to be left alone; 0 if it does not say.
func retryAfter(header http.Header, now time.Time) time.Duration {
	value := header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}

func compress(b []byte) []byte {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	w.Write(b)
	w.Close()
	return packed.Bytes()
}
