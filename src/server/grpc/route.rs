//! From a request to the service that answers it.
//!
//! Invariants:
//! - Nothing is answered before it is known who may ask: `health` and `reflection` alone are for everybody.
//! - A request of a web page (it has an `origin`) is answered only where `grpc.web_origins` has the page. Without any, no
//!   page of any site that a user of this machine visits can read the stream.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, CONTENT_TYPE, ORIGIN, VARY,
};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic_web::{GrpcWebLayer, GrpcWebService};
use tower_layer::Layer;
use tower_service::Service;

use super::auth::{Role, Tokens};
use super::listener::Answer;
use crate::error::{Error, Result};

/// A request's largest message: an Open with some hundreds of table patterns. It is held whole before it is read.
pub const REQUEST_MAX_BYTES: usize = 64 << 10;

/// A request by gRPC-Web: it has one message only, after which nothing more can come.
#[derive(Clone, Copy, Debug)]
pub struct ByWeb;

#[derive(Clone)]
pub struct Router {
    calls: GrpcWebService<Calls>,
    web_origins: Arc<[HeaderValue]>,
}

impl Router {
    /// Errors: Config, for an origin that cannot stand in a header; Bug.
    pub fn new(services: Services, tokens: Tokens, web_origins: &[String]) -> Result<Router> {
        let origin = |origin: &String| {
            HeaderValue::from_str(origin)
                .map_err(|cause| Error::config(format!("the origin {origin:?}")).because(cause))
        };
        let web_origins = web_origins.iter().map(origin).collect::<Result<_>>()?;
        let calls = Calls { services: Arc::new(services), tokens: Arc::new(tokens) };
        Ok(Router { calls: GrpcWebLayer::new().layer(calls), web_origins })
    }
}

impl Answer for Router {
    async fn answer(&self, mut request: Request<Body>) -> Response<Body> {
        let origin = request.headers().get(ORIGIN).cloned();
        if let Some(origin) = &origin
            && !self.web_origins.contains(origin)
        {
            return plain(StatusCode::FORBIDDEN);
        }
        let mut response = match request.method() {
            &Method::OPTIONS if origin.is_some() => preflight(),
            _ => {
                let content_type = request.headers().get(CONTENT_TYPE);
                if content_type.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc-web")) {
                    request.extensions_mut().insert(ByWeb);
                }
                let Ok(response) = self.calls.clone().call(request).await;
                response
            }
        };
        if let Some(origin) = origin {
            let headers = response.headers_mut();
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(VARY, HeaderValue::from_static("origin"));
            let exposed = HeaderValue::from_static("grpc-status,grpc-message,grpc-status-details-bin");
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
        response
    }

    fn refuse(&self) -> Response<Body> {
        let text = "there are as many connections as grpc.max_connections allows; close some, or raise it";
        Status::resource_exhausted(text).into_http()
    }
}

fn plain(code: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = code;
    response
}

/// What a browser asks before a page of another site may call.
fn preflight() -> Response<Body> {
    let mut response = plain(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
    let allowed = HeaderValue::from_static("authorization,content-type,grpc-timeout,x-grpc-web,x-user-agent");
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    // As long as browsers keep it.
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("7200"));
    response
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

type Handler = Arc<dyn Fn(Request<Body>) -> Answering + Send + Sync>;

/// What can be called, by the service's full name.
#[derive(Clone, Default)]
pub struct Services(Vec<(&'static str, Handler)>);

impl Services {
    pub fn add<S>(&mut self, service: S)
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + NamedService,
        S: Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        self.0.push((S::NAME, Arc::new(move |request| Box::pin(service.clone().call(request)))));
    }

    fn of(&self, name: &str) -> Option<&Handler> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, handler)| handler)
    }
}

#[derive(Clone)]
struct Calls {
    services: Arc<Services>,
    tokens: Arc<Tokens>,
}

impl Service<Request<Body>> for Calls {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answering {
        let path = request.uri().path().to_owned();
        let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or_default();
        let allowed = match wanted(service, method) {
            Some(role) => self.tokens.allow(request.headers(), role),
            None => Ok(()),
        };
        let refusal = match (allowed, self.services.of(service)) {
            (Ok(()), Some(handler)) => return handler(request),
            (Ok(()), None) => Status::unimplemented(format!("there is no service {service:?}; reflection lists them")),
            (Err(status), _) => status,
        };
        Box::pin(async move { Ok(refusal.into_http()) })
    }
}

/// The role a call wants; none where everybody may.
fn wanted(service: &str, method: &str) -> Option<Role> {
    match service {
        "grpc.health.v1.Health"
        | "grpc.reflection.v1.ServerReflection"
        | "grpc.reflection.v1alpha.ServerReflection" => None,
        "walbrook.v1.ChangeStream" => Some(Role::Read),
        _ if method.starts_with("Get") || method.starts_with("List") => Some(Role::Read),
        _ => Some(Role::Admin),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_something_wants_an_admin() {
        for (service, method, role) in [
            ("walbrook.v1.ChangeStream", "Subscribe", Some(Role::Read)),
            ("walbrook.v1.Admin", "GetStatus", Some(Role::Read)),
            ("walbrook.v1.Admin", "ListTables", Some(Role::Read)),
            ("walbrook.v1.Admin", "SetOffset", Some(Role::Admin)),
            ("walbrook.v1.Admin", "Shutdown", Some(Role::Admin)),
            ("walbrook.v1.Admin", "", Some(Role::Admin)),
            ("grpc.health.v1.Health", "Watch", None),
            ("grpc.reflection.v1.ServerReflection", "ServerReflectionInfo", None),
            ("grpc.health.v1.Healthy", "Check", Some(Role::Admin)),
        ] {
            assert_eq!(wanted(service, method), role, "{service}/{method}");
        }
    }

    fn router(origins: &[String]) -> Router {
        Router::new(Services::default(), Tokens::new([("0123456789abcdef", Role::Read)]), origins).unwrap()
    }

    async fn ask(router: &Router, method: Method, headers: &[(&str, &str)]) -> Response<Body> {
        let mut request = Request::builder().method(method).uri("/walbrook.v1.ChangeStream/Subscribe");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        router.answer(request.version(http::Version::HTTP_2).body(Body::empty()).unwrap()).await
    }

    #[tokio::test]
    async fn a_page_is_answered_only_where_it_is_known() {
        let closed = router(&[]);
        let page = ("origin", "https://console.example.org");
        let web = ("content-type", "application/grpc-web+proto");
        assert_eq!(ask(&closed, Method::POST, &[page, web]).await.status(), StatusCode::FORBIDDEN);
        assert_eq!(ask(&closed, Method::OPTIONS, &[page]).await.status(), StatusCode::FORBIDDEN);
        let open = router(&["https://console.example.org".to_owned()]);
        let preflight = ask(&open, Method::OPTIONS, &[page]).await;
        assert_eq!(preflight.status(), StatusCode::NO_CONTENT);
        assert_eq!(preflight.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], page.1);
        let answer = ask(&open, Method::POST, &[page, web]).await;
        assert_eq!(
            (answer.status(), &answer.headers()[ACCESS_CONTROL_ALLOW_ORIGIN]),
            (StatusCode::OK, &preflight.headers()[ACCESS_CONTROL_ALLOW_ORIGIN])
        );
    }

    #[tokio::test]
    async fn who_has_no_token_learns_nothing() {
        let router = router(&[]);
        let code =
            async |headers: &[(&str, &str)]| ask(&router, Method::POST, headers).await.headers()["grpc-status"].clone();
        let grpc = ("content-type", "application/grpc");
        assert_eq!(code(&[grpc]).await, "16", "UNAUTHENTICATED");
        assert_eq!(code(&[grpc, ("authorization", "Bearer 0123456789abcdef")]).await, "12", "UNIMPLEMENTED");
    }
}
