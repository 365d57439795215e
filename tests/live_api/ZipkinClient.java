// Reads a trace and the dependencies as Zipkin's own Java library does, and prints what it understood.
// Arguments: the base URL, a trace id, endTs and lookback in milliseconds.

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.Iterator;
import java.util.List;
import java.util.logging.Logger;
import zipkin2.DependencyLink;
import zipkin2.Span;
import zipkin2.codec.DependencyLinkBytesDecoder;
import zipkin2.codec.SpanBytesDecoder;
import zipkin2.internal.DependencyLinker;
import zipkin2.internal.SpanNode;

class ZipkinClient {
  public static void main(String[] args) throws Exception {
    List<Span> spans = SpanBytesDecoder.JSON_V2.decodeList(get(args[0] + "/api/v2/trace/" + args[1]));
    Iterator<SpanNode> nodes = SpanNode.newBuilder(Logger.getGlobal()).build(spans).traverse();
    while (nodes.hasNext()) {
      SpanNode node = nodes.next();
      int depth = 0;
      for (SpanNode up = node.parent(); up != null; up = up.parent()) depth++;
      Span span = node.span();
      System.out.println("span " + depth + " " + span.localServiceName() + " " + span.name() + " " + span.kind() + " "
          + span.shared() + " " + span.durationAsLong() + " " + span.remoteServiceName() + " " + span.tags());
    }
    print("linked", new DependencyLinker().putTrace(spans).link());
    byte[] links = get(args[0] + "/api/v2/dependencies?endTs=" + args[2] + "&lookback=" + args[3]);
    print("stored", DependencyLinkBytesDecoder.JSON_V1.decodeList(links));
  }

  static void print(String whose, List<DependencyLink> links) {
    for (DependencyLink link : links) {
      System.out.println(whose + " " + link.parent() + " " + link.child() + " " + link.callCount() + " " + link.errorCount());
    }
  }

  static byte[] get(String url) throws Exception {
    var answer = HttpClient.newHttpClient().send(HttpRequest.newBuilder(URI.create(url)).build(), BodyHandlers.ofByteArray());
    if (answer.statusCode() != 200) throw new IllegalStateException(url + ": " + answer.statusCode());
    return answer.body();
  }
}
