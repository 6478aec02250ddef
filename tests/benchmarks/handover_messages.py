"""Messages that agents of several trades hand over, in several languages, drawn with a seed.

Kinds are the seven of the package and four of a user's own (trades, laboratory values, shipments,
incidents), with fields that are sometimes absent, as they are in practice.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any

from pydantic import BaseModel, Field

from langchain_tokenopt import MessageTemplates
from langchain_tokenopt.compress.message_forms import (
    Decision,
    ErrorReport,
    Finding,
    Handoff,
    Question,
    Report,
    Status,
    Task,
)

__all__ = ["OWN_FORMS", "handovers", "templates_for"]


class Side(Enum):
    """Of a trade."""

    BUY = "buy"
    SELL = "sell"


class Fill(BaseModel):
    """A trade."""

    order: str
    symbol: str
    side: Side
    quantity: int
    price: Decimal
    venue: str | None = None
    filled_at: datetime
    fees: dict[str, Decimal] = {}


class LabValue(BaseModel):
    """One value of a laboratory."""

    test: str
    value: Decimal
    unit: str
    low: Decimal | None = None
    high: Decimal | None = None
    flag: str = ""


class LabReport(BaseModel):
    """Values of one patient."""

    patient: str
    taken: date
    values: list[LabValue]
    comment: str = ""
    urgent: bool = False


class Place(BaseModel):
    """Where something is."""

    city: str
    country: str
    depot: int | None = None


class Shipment(BaseModel):
    """Something on its way."""

    tracking: str
    sender: Place = Field(alias="from")
    to: Place
    weight_kg: float
    expected: date | None = None
    delayed: bool = False
    events: list[str] = []


class Incident(BaseModel):
    """Something broken, with what was measured."""

    service: str
    severity: int
    since: datetime
    symptoms: list[str]
    metrics: list[dict[str, float]] = []
    suspected: str | None = None
    runbook: str | None = None


OWN_FORMS = {"fill": Fill, "labs": LabReport, "shipment": Shipment, "incident": Incident}

TEXTS = {
    "finance, English": (
        "Exposure to ACME is 12.4 % above the limit of $2,000,000.",
        "Two trades of 14 March are still unbooked; the broker says: \"tomorrow\".",
        "Revenue grew 12 % to $4.1 billion, but margins fell.",
        "Do not trade before the earnings call at 16:00.",
        "Our recommendation: SELL 40 % of the position by Friday.",
        "The hedge ratio must not exceed 0.85.",
    ),
    "medicine, German": (
        "Die Glukose liegt mit 12,5 mmol/l über der Grenze.",
        "Der Patient nimmt seit 3 Tagen kein Metformin mehr.",
        "Kontrolle in 24 Stunden, nüchtern.",
        "Keine Allergien bekannt; Penicillin nicht gegeben.",
        "Wegen der Nierenwerte die Dosis halbieren.",
        "Rücksprache mit Dr. Weiß: Aufnahme empfohlen.",
    ),
    "law, Spanish": (
        "El contrato se renueva el 1 de enero, salvo aviso con 30 días.",
        "La cláusula 7.2 limita la responsabilidad a 50.000 €.",
        "Falta la firma del apoderado: «pendiente».",
        "No se puede ceder sin consentimiento escrito.",
        "¿Quién responde por los daños indirectos?",
        "Se recomienda rechazar la enmienda 4.",
    ),
    "logistics, French": (
        "Le conteneur MSKU-118 est retenu à la douane du Havre.",
        "Livraison prévue le 12 décembre avant 9 h.",
        "Il manque 3 palettes sur 24 ; le transporteur conteste.",
        "Ne pas dépasser 4 °C pendant le transport.",
        "Le dépôt de Lyon est fermé jusqu'à lundi.",
        "On propose de passer par Anvers.",
    ),
    "software, English": (
        "The nightly build fails since commit 4f2a91c.",
        "`parse()` returns None | raises KeyError on an empty file.",
        "Latency p99 went from 210 ms to 1.9 s after the deploy.",
        "Roll back v2.31 unless the cache fix lands by noon.",
        "Tests: 812 passed, 3 failed, 2 skipped.",
        "See logs:\n  ERROR db: timeout after 30 s\n  ERROR db: retrying (3/3)",
    ),
    "support, Chinese": (
        "客户要求在周五之前退款 1,280 元。",
        "订单 A-2291 已发货，但地址有误。",
        "请勿再次致电；客户只接受邮件。",
        "建议升级到二级支持。",
        "问题从 11 月 3 日开始，重启无效。",
        "客户说：“我等了三周”。",
    ),
    "energy, Japanese": (
        "第2変電所の負荷は定格の94%に達した。",
        "12月1日9時までに点検を終えること。",
        "風速が25m/sを超えたら停止する。",
        "予備機は使用できない。",
        "原因は冷却ポンプの故障と思われる。",
        "本社の承認が必要：未取得。",
    ),
    "public health, Arabic": (
        "ارتفع عدد الحالات إلى 340 حالة خلال أسبوع.",
        "اللقاح متوفر في 12 مركزا فقط.",
        "لا تُنقل العينات بعد الساعة 18:00.",
        "نوصي بتأجيل الحملة إلى 5 يناير.",
        "البيانات من المنطقة الشمالية ناقصة.",
        "يرجى التأكيد قبل الغد.",
    ),
    "farming, Hindi": (
        "खेत 7 में नमी 18 % से नीचे है।",
        "15 दिसंबर से पहले सिंचाई करें।",
        "कीटनाशक का दोबारा प्रयोग न करें।",
        "बीज की 40 बोरियाँ कम हैं।",
        "मौसम विभाग ने पाले की चेतावनी दी है।",
        "सुझाव: गेहूँ की बुवाई टालें।",
    ),
    "insurance, Portuguese": (
        "O sinistro 77/2026 está coberto até R$ 15.000,00.",
        "Faltam duas fotos e o boletim de ocorrência.",
        "A franquia não se aplica a vidros.",
        "Prazo: 10 dias úteis, contados de 2 de dezembro.",
        "Recomenda-se pagar 80 % agora.",
        "O perito discorda: \"dano anterior\".",
    ),
}  # fmt: skip
AGENTS = (
    "desk",
    "risk",
    "news",
    "analyst",
    "writer",
    "reviewer",
    "chief",
    "intake",
    "ops",
    "legal",
)
NOW = datetime(2026, 11, 30, 9, 0, tzinfo=UTC)


class _Draw:
    """Draws messages of one field and language."""

    def __init__(self, rng: random.Random, texts: tuple[str, ...]) -> None:
        self.rng, self.texts = rng, texts

    def lines(self, most: int) -> list[str]:
        return self.rng.sample(self.texts, self.rng.randint(0, most))

    def text(self, most: int = 3) -> str:
        parts = self.rng.sample(self.texts, self.rng.randint(1, most))
        return self.rng.choice((" ", "\n\n", "\n- ")).join(parts)

    def maybe(self, value: Any, otherwise: Any = None) -> Any:
        return value if self.rng.random() < 0.5 else otherwise

    def at(self) -> datetime:
        return NOW + timedelta(minutes=self.rng.choice((1, 15, 60)) * self.rng.randint(-300, 3000))

    def number(self, most: int = 50_000) -> Decimal:
        return Decimal(self.rng.randint(1, most)).scaleb(-self.rng.randint(0, 2))

    def code(self) -> str:
        return f"{self.rng.choice('TRQAX')}-{self.rng.randint(100, 9999)}"

    def share(self) -> float:
        return self.rng.randint(0, 20) / 20

    def whose(self) -> dict[str, Any]:
        by, to = self.rng.sample(AGENTS, 2)
        return {"id": self.maybe(self.code(), ""), "by": by, "to": self.maybe(to, "")}

    def task(self) -> BaseModel:
        urgent = self.rng.choice(("low", "normal", "high", None))
        files = self.rng.sample(("positions.csv", "limits.csv", "report-7.pdf", "scan.png"), 2)
        return Task(
            **self.whose(), goal=self.text(2), inputs=self.maybe(files, []), rules=self.lines(2),
            due=self.maybe(self.at()), priority=urgent,
        )  # fmt: skip

    def finding(self) -> Finding:
        value = self.maybe(self.number())
        return Finding(
            claim=self.rng.choice(self.texts), value=value, unit="%" if value else "",
            source=self.maybe(self.code(), ""), confidence=self.maybe(self.share()),
        )  # fmt: skip

    def report(self) -> BaseModel:
        findings = [self.finding() for _ in range(self.rng.randint(0, 5))]
        return Report(
            **self.whose(), summary=self.text(4), findings=findings,
            confidence=self.maybe(self.share()),
        )  # fmt: skip

    def decision(self) -> BaseModel:
        options = self.rng.sample(("HOLD", "BUY", "SELL", "approve", "reject", "escalate"), 3)
        return Decision(
            **self.whose(), about=self.maybe(self.code(), ""), choice=options[0],
            rejected=self.maybe(options[1:], []), reasons=self.lines(3), conditions=self.lines(1),
            confidence=self.maybe(self.share()),
        )  # fmt: skip

    def question(self) -> BaseModel:
        options = self.maybe(["yes", "no", "later"], [])
        return Question(**self.whose(), text=self.text(1), options=options, due=self.maybe(NOW))

    def handoff(self) -> BaseModel:
        return Handoff(
            **self.whose(),
            done=self.lines(3),
            open=self.lines(3),
            notes=self.maybe(self.text(), ""),
        )

    def status(self) -> BaseModel:
        state = self.rng.choice(("waiting", "running", "done", "failed", "cancelled"))
        return Status(
            **self.whose(), state=state, progress=self.maybe(self.share()),
            at=self.maybe(self.at()), note=self.maybe(self.rng.choice(self.texts), ""),
        )  # fmt: skip

    def error(self) -> BaseModel:
        kind = self.rng.choice(("timeout", "rate_limit", "bad_input", "not_found"))
        return ErrorReport(
            **self.whose(), kind=kind, message=self.rng.choice(self.texts),
            attempts=self.maybe(self.rng.randint(1, 5)), can_retry=self.maybe(True, False),
        )  # fmt: skip

    def fill(self) -> BaseModel:
        return Fill(
            order=str(self.rng.randint(10**7, 10**8)),
            symbol=self.rng.choice(("ACME", "X", "7203")),
            side=self.rng.choice(list(Side)), quantity=100 * self.rng.randint(1, 90),
            price=self.number(), venue=self.maybe("XETRA"), filled_at=self.at(),
            fees=self.maybe({"broker": Decimal("1.50"), "venue": Decimal("0.20")}, {}),
        )  # fmt: skip

    def labs(self) -> BaseModel:
        names = self.rng.sample(("Glucose", "Kreatinin", "eGFR", "K+", "Na+", "CRP", "白血球"), 4)
        values = [
            LabValue(
                test=name, value=self.number(900), unit=self.rng.choice(("mmol/l", "mg/dl", "g/l")),
                low=self.maybe(Decimal("3.9")), high=self.maybe(Decimal("5.6")),
                flag=self.maybe("H", ""),
            )
            for name in names
        ]  # fmt: skip
        return LabReport(
            patient=self.code(), taken=self.at().date(), values=values,
            comment=self.maybe(self.text(2), ""), urgent=self.maybe(True, False),
        )  # fmt: skip

    def shipment(self) -> BaseModel:
        places = [
            {"city": city, "country": land, "depot": self.maybe(self.rng.randint(1, 40))}
            for city, land in self.rng.sample(
                (("Lyon", "FR"), ("São Paulo", "BR"), ("大阪", "JP")), 2
            )
        ]
        return Shipment.model_validate(
            {
                "tracking": f"1Z{self.rng.randint(10**9, 10**10)}",
                "from": places[0], "to": places[1],
                "weight_kg": self.rng.randint(1, 900) / 4, "expected": self.maybe(self.at().date()),
                "delayed": self.maybe(True, False), "events": self.lines(3),
            }
        )  # fmt: skip

    def incident(self) -> BaseModel:
        metrics = [
            {"minute": float(n), "p50_ms": self.rng.randint(20, 90) / 1, "errors": float(n % 4)}
            for n in range(self.rng.randint(0, 6))
        ]
        return Incident(
            service=self.rng.choice(("checkout", "search", "auth-eu")),
            severity=self.rng.randint(1, 4), since=self.at(), symptoms=self.lines(3),
            metrics=metrics, suspected=self.maybe(self.rng.choice(self.texts)),
            runbook=self.maybe("RB-12"),
        )  # fmt: skip


KINDS: dict[str, Callable[[_Draw], BaseModel]] = {
    "task": _Draw.task, "report": _Draw.report, "decision": _Draw.decision,
    "question": _Draw.question, "handoff": _Draw.handoff, "status": _Draw.status,
    "error": _Draw.error, "fill": _Draw.fill, "labs": _Draw.labs, "shipment": _Draw.shipment,
    "incident": _Draw.incident,
}  # fmt: skip


def handovers(number: int = 500, seed: int = 7) -> list[tuple[str, str, BaseModel]]:
    """Return messages with their kind and their field and language, every kind as often."""
    rng = random.Random(seed)
    fields, kinds = list(TEXTS), list(KINDS)
    made = []
    for at in range(number):
        field, kind = rng.choice(fields), kinds[at % len(kinds)]
        made.append((kind, field, KINDS[kind](_Draw(rng, TEXTS[field]))))
    return made


def templates_for() -> MessageTemplates:
    """Return a registry that knows all kinds."""
    templates = MessageTemplates()
    for name, model in OWN_FORMS.items():
        templates.register(name, model)
    return templates
