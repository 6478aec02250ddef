"""Prove on your own requests that answers did not get worse, and see what is saved."""

from langchain_tokenopt.evaluate.answer_store import AnswerStoreError
from langchain_tokenopt.evaluate.cases import Case, CaseFileError, read_cases
from langchain_tokenopt.evaluate.comparing import acompare, compare
from langchain_tokenopt.evaluate.comparison import Comparison, Interval, JudgeResult, Verdict
from langchain_tokenopt.evaluate.comparison_state import Progress, UnpricedModelError
from langchain_tokenopt.evaluate.guard import GuardFileError, GuardReport, QualityGuard
from langchain_tokenopt.evaluate.judges import (
    AgreementJudge,
    AnswerJudge,
    ContainsReference,
    ExactMatch,
    JsonEqual,
    Judge,
    NamesKept,
    NormalizedMatch,
    NumbersKept,
    Scores,
    Similarity,
    TokenF1,
    ToolCallsEqual,
    Trial,
    UnjudgedError,
)
from langchain_tokenopt.evaluate.model_judge import EvaluatorJudge, ModelJudge
from langchain_tokenopt.evaluate.recorder import CaseRecorder, record_cases
from langchain_tokenopt.evaluate.run_answer import RunAnswer

__all__ = [
    "AgreementJudge",
    "AnswerJudge",
    "AnswerStoreError",
    "Case",
    "CaseFileError",
    "CaseRecorder",
    "Comparison",
    "ContainsReference",
    "EvaluatorJudge",
    "ExactMatch",
    "GuardFileError",
    "GuardReport",
    "Interval",
    "JsonEqual",
    "Judge",
    "JudgeResult",
    "ModelJudge",
    "NamesKept",
    "NormalizedMatch",
    "NumbersKept",
    "Progress",
    "QualityGuard",
    "RunAnswer",
    "Scores",
    "Similarity",
    "TokenF1",
    "ToolCallsEqual",
    "Trial",
    "UnjudgedError",
    "UnpricedModelError",
    "Verdict",
    "acompare",
    "compare",
    "read_cases",
    "record_cases",
]
