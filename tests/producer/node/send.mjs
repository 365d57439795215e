// One trace by each of OpenTelemetry's exporters for Node: node send.mjs http://127.0.0.1:4318
import { SpanKind, SpanStatusCode, context, trace } from '@opentelemetry/api';
import { OTLPTraceExporter as JsonExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { OTLPTraceExporter as ProtoExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { ZipkinExporter } from '@opentelemetry/exporter-zipkin';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BasicTracerProvider, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base';

const url = process.argv[2];
const exporters = {
  'node-proto': new ProtoExporter({ url: `${url}/v1/traces` }),
  'node-proto-gzip': new ProtoExporter({ url: `${url}/v1/traces`, compression: 'gzip' }),
  'node-json': new JsonExporter({ url: `${url}/v1/traces` }),
  'node-zipkin': new ZipkinExporter({ url: `${url}/api/v2/spans` }),
};

for (const [service, exporter] of Object.entries(exporters)) {
  const provider = new BasicTracerProvider({
    resource: resourceFromAttributes({ 'service.name': service }),
    spanProcessors: [new SimpleSpanProcessor(exporter)],
  });
  const tracer = provider.getTracer('t');
  const parent = tracer.startSpan('parent', { kind: SpanKind.SERVER, attributes: { text: 'grüße', number: 42 } });
  const child = tracer.startSpan('child', {}, trace.setSpan(context.active(), parent));
  child.setStatus({ code: SpanStatusCode.ERROR, message: 'no' });
  child.addEvent('event', { key: 'value' });
  child.end();
  parent.end();
  await provider.shutdown();
}
