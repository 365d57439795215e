package tracewatch

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// DefaultTopic is where the stream reads spans.
const DefaultTopic = "tracewatch.spans"

// InvalidSettingError names the variable whose value cannot be used.
type InvalidSettingError struct {
	Variable string
	Reason   string
}

func (e *InvalidSettingError) Error() string { return e.Variable + ": " + e.Reason }

// kafkaSettings is where Kafka is and how to be let in: TRACEWATCH_KAFKA_*, the same names as everywhere.
type kafkaSettings struct {
	bootstrapServers []string
	topic            string
	securityProtocol string
	saslMechanism    string
	saslUsername     string
	saslPassword     string
	caFile           string
}

// producerSettings is how spans are collected: TRACEWATCH_PRODUCER_*, equal to the Python producer's.
type producerSettings struct {
	linger             time.Duration
	earlyFlushInterval time.Duration
	maxQueueSpans      int
	maxPendingBytes    int
}

func kafkaFromEnvironment() (kafkaSettings, error) {
	settings := kafkaSettings{
		bootstrapServers: strings.Split(orDefault("TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS", "localhost:9092"), ","),
		topic:            orDefault("TRACEWATCH_KAFKA_SPANS_TOPIC", defaultTopic()),
		saslUsername:     os.Getenv("TRACEWATCH_KAFKA_SASL_USERNAME"),
		saslPassword:     os.Getenv("TRACEWATCH_KAFKA_SASL_PASSWORD"),
		caFile:           os.Getenv("TRACEWATCH_KAFKA_SSL_CAFILE"),
	}
	var err error
	settings.securityProtocol, err = choice("TRACEWATCH_KAFKA_SECURITY_PROTOCOL",
		"PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
	if err != nil {
		return settings, err
	}
	settings.saslMechanism, err = choice("TRACEWATCH_KAFKA_SASL_MECHANISM", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
	if err != nil {
		return settings, err
	}
	if settings.usesSASL() {
		for variable, value := range map[string]string{
			"TRACEWATCH_KAFKA_SASL_USERNAME": settings.saslUsername,
			"TRACEWATCH_KAFKA_SASL_PASSWORD": settings.saslPassword,
		} {
			if value == "" {
				return settings, &InvalidSettingError{variable, "needed, because TRACEWATCH_KAFKA_SECURITY_PROTOCOL=" +
					settings.securityProtocol}
			}
		}
	}
	return settings, nil
}

func producerFromEnvironment() (producerSettings, error) {
	var settings producerSettings
	numbers := []struct {
		variable string
		fallback int
		take     func(int)
	}{
		{"TRACEWATCH_PRODUCER_LINGER_MS", 200, func(n int) { settings.linger = time.Duration(n) * time.Millisecond }},
		{"TRACEWATCH_PRODUCER_EARLY_FLUSH_INTERVAL_MS", 50, func(n int) {
			settings.earlyFlushInterval = time.Duration(n) * time.Millisecond
		}},
		{"TRACEWATCH_PRODUCER_MAX_QUEUE_SPANS", 8192, func(n int) { settings.maxQueueSpans = n }},
		{"TRACEWATCH_PRODUCER_MAX_PENDING_BYTES", 32 << 20, func(n int) { settings.maxPendingBytes = n }},
	}
	for _, number := range numbers {
		value := number.fallback
		if text := os.Getenv(number.variable); text != "" {
			parsed, err := strconv.Atoi(text)
			if err != nil || parsed < 1 {
				return settings, &InvalidSettingError{number.variable, fmt.Sprintf("%q is not a whole number above 0", text)}
			}
			value = parsed
		}
		number.take(value)
	}
	return settings, nil
}

func (s kafkaSettings) usesSASL() bool { return strings.HasPrefix(s.securityProtocol, "SASL_") }

func (s kafkaSettings) usesTLS() bool { return strings.HasSuffix(s.securityProtocol, "SSL") }

// tlsConfig trusts the system's authorities, or those of TRACEWATCH_KAFKA_SSL_CAFILE alone.
func (s kafkaSettings) tlsConfig() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.caFile == "" {
		return config, nil
	}
	pem, err := os.ReadFile(s.caFile)
	if err != nil {
		return nil, &InvalidSettingError{"TRACEWATCH_KAFKA_SSL_CAFILE", err.Error()}
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, &InvalidSettingError{"TRACEWATCH_KAFKA_SSL_CAFILE", s.caFile + " holds no PEM certificate"}
	}
	return config, nil
}

// defaultTopic is the topic of the deployment that TRACEWATCH_KAFKA_TOPIC_PREFIX names.
func defaultTopic() string {
	if prefix := os.Getenv("TRACEWATCH_KAFKA_TOPIC_PREFIX"); prefix != "" {
		return prefix + "spans"
	}
	return DefaultTopic
}

func orDefault(variable, fallback string) string {
	if value := os.Getenv(variable); value != "" {
		return value
	}
	return fallback
}

// choice reads a variable that must be one of a set, whose first is the default.
func choice(variable string, allowed ...string) (string, error) {
	value := orDefault(variable, allowed[0])
	if !slices.Contains(allowed, value) {
		return "", &InvalidSettingError{variable, fmt.Sprintf("%q is not one of %s", value, strings.Join(allowed, ", "))}
	}
	return value, nil
}
