"""Define the terms in Japanese and English: verdicts, outcomes, ends, actions of the custody log."""

from typing import Final

from tasks.custody.containment.receipt import End
from tasks.custody.evidence.acquisition import Outcome
from tasks.custody.incident.ending import DRY_RUN, NOT_RECOVERED, PARTLY_RECOVERED, PARTLY_THAWED, RECOVERED, UNVERIFIED
from tasks.custody.incident.stance import Stance
from tasks.custody.incident.verdict import Word
from tasks.custody.models.inspection import Soundness
from tasks.rendering.document import Both, Tone

JAPANESE: Final = {
    Word.VERIFIED: "検証済み",
    Word.PARTIAL: "一部欠落",
    Word.UNANSWERED: "未回答のプロセスあり",
    Word.UNVERIFIED: "未検証",
    Word.NOT_CONTAINED: "封じ込め未完了",
    Word.THAWED: "解凍済み",
}
COMPLETE: Final = "このポストモーテムを完成させる。"
_VERDICTS: Final = {
    Word.VERIFIED: (
        Tone.GOOD,
        "封じ込め・採取・保全のすべてを確認",
        "contained, everything needed collected, every object proven",
        f"{COMPLETE}API を戻すには recover を実行する。",
    ),
    Word.PARTIAL: (
        Tone.FAIR,
        "保全は確認済み、ただし必要な証跡に欠けあり",
        "every object proven, but something needed was lost",
        "欠落の原因を除き、同じ incident_id で撤収をもう一度実行する。",
    ),
    Word.UNANSWERED: (
        Tone.BAD,
        "判明分は停止し保全済み、無害と確認できないプロセスが残る",
        "what is known is stopped, every object proven; processes live that are not known to be harmless",
        "ここに挙げた各プロセスについて evacuation answer で bystander (無関係) か end (終了) を答える。",
    ),
    Word.UNVERIFIED: (
        Tone.BAD,
        "保全を確認できていない",
        "it is not proven that the store has everything",
        "保存先かネットワークを直し、同じ incident_id で撤収をもう一度実行する。完了した手順は繰り返されない。",
    ),
    Word.NOT_CONTAINED: (
        Tone.BAD,
        "ワークロードがまだ動いている、または再開しうる",
        "something of the workload lives, or may start again",
        "ここに挙げたものを手で止め、同じ incident_id で撤収をもう一度実行する。",
    ),
    Word.THAWED: (
        Tone.GOOD,
        "停止せずに解放し、ワークロードは元の状態に戻った",
        "called off before anything was stopped; the workload goes on as it was",
        COMPLETE,
    ),
}
VERDICTS: Final = {
    word: (tone, Both(f"{JAPANESE[word]}: {ja}", en), following)
    for word, (tone, ja, en, following) in _VERDICTS.items()
}
RUN_ENDS: Final = {
    DRY_RUN.name: (
        Tone.FAIR,
        Both("予行: 何も止めず、何も送っていない。", "A rehearsal: nothing was stopped, nothing was sent."),
        "計画 (plan) を読む。",
    ),
    RECOVERED.name: (Tone.GOOD, Both("復旧済み: API の応答とモデルを確認", "the API is back and proven"), COMPLETE),
    PARTLY_RECOVERED.name: (
        Tone.FAIR,
        Both("復旧: API は動いているが、未確認の点あり", "the API is back and stays up, but not all of it is proven"),
        "ブロックの契約を直して recover を再度実行するか、未確認の点を手で確かめる。",
    ),
    PARTLY_THAWED.name: (
        Tone.FAIR,
        Both(
            "解凍済み: ただし一時停止したままのものがあるか、記録が保全先にない",
            "the workload goes on, but something in Prefect is still paused, or the store has no record of it",
        ),
        f"ここに挙げたものを手で再開するか、evacuation uncordon を実行する。{COMPLETE}",
    ),
    NOT_RECOVERED.name: (
        Tone.BAD,
        Both("復旧できず: API は戻っていない", "the API did not come back"),
        "理由と、そこに示された API のログを読み、直してから recover を再度実行する。",
    ),
    UNVERIFIED.name: (
        Tone.BAD,
        Both("記録が保全先にない。このホストにはある", "the record is not in the store; it is on this host"),
        VERDICTS[Word.UNVERIFIED][2],
    ),
}
"""Endings of a run other than the verdict on its evidence."""
ENDS: Final = {
    End.SURVIVED: (Tone.BAD, Both("生存", "survived")),
    End.HELD: (Tone.FAIR, Both("凍結のまま", "left frozen")),
    End.REBOOT: (Tone.FAIR, Both("再起動で終了", "ended by a reboot")),
    End.KILLED: (Tone.FAIR, Both("強制終了", "killed")),
    End.GONE: (Tone.QUIET, Both("自ら終了", "ended by itself")),
    End.STOPPED: (Tone.GOOD, Both("停止", "stopped")),
}
OUTCOMES: Final = {
    Outcome.COLLECTED: (Tone.GOOD, "採取済み"),
    Outcome.EMPTY: (Tone.QUIET, "空"),
    Outcome.WITHHELD: (Tone.QUIET, "除外"),
    Outcome.MISSING: (Tone.FAIR, "存在せず"),
    Outcome.TRUNCATED: (Tone.FAIR, "一部のみ"),
    Outcome.DENIED: (Tone.BAD, "拒否"),
    Outcome.FAILED: (Tone.BAD, "失敗"),
    Outcome.TIMED_OUT: (Tone.BAD, "時間切れ"),
}
SOUNDNESS: Final = {
    Soundness.SUSPECT: (Tone.BAD, "不審"),
    Soundness.TORN: (Tone.BAD, "破損"),
    Soundness.UNKNOWN: (Tone.FAIR, "判定不能"),
    Soundness.SOUND: (Tone.GOOD, "健全"),
}
ACTIONS: Final = {
    "run triggered": Both("起動の指示", "triggered"),
    "frozen early": Both("Prefect の起動前に凍結", "frozen before Prefect was started"),
    "run opened": Both("実行開始", "run opened"),
    "step done": Both("完了", "step done"),
    "step incomplete": Both("不完全", "step incomplete"),
    "step failed": Both("失敗", "step failed"),
    "step cached": Both("再利用", "step cached"),
    "deviation": Both("手順からの逸脱", "deviation"),
    "rebooted": Both("ホストの再起動", "the host was rebooted"),
    "came back": Both("再出現", "came back"),
    "asked": Both("判断を依頼", "asked"),
    "answered": Both("判断", "answered"),
    "process answered": Both("正体不明のプロセスへの回答", "process answered"),
    "thawed": Both("解凍", "thawed"),
    "uncordoned": Both("ロック解除", "uncordoned"),
    "postmortem": Both("ポストモーテムの記入", "postmortem written"),
    "restarted": Both("再起動", "restarted"),
    "healthy": Both("応答確認", "healthy"),
    "model proven": Both("モデル一致", "model proven"),
    "predicted": Both("推論確認", "predicted"),
    "cancelled": Both("中止", "cancelled"),
    "contained again": Both("再封じ込め", "contained again"),
    "verdict": Both("判定", "verdict"),
}
STANDS: Final = {
    Stance.CONTAINED: "封じ込め済み",
    Stance.AS_FAR_AS_KNOWN: "判明分は停止済み・未回答あり",
    "stored": "保全済み",
    "not stored": "未保全",
    "recovered": "復旧済み",
    "not recovered": "未復旧",
    Stance.FROZEN: "凍結済み・未停止",
    Stance.FROZEN_AS_FAR_AS_KNOWN: "判明分は凍結済み・未停止・未回答あり",
    Stance.REST_FROZEN: "残りは凍結済み",
    Stance.REST_FROZEN_AS_FAR_AS_KNOWN: "残りは判明分を凍結済み・未回答あり",
    Stance.NOT_CONTAINED: "封じ込め未完了",
    Stance.RELEASED: "以前の復旧で解除済み",
    Stance.UNTOUCHED: "予行のみ",
}
"""States that a cancelled run leaves, by their English words."""
